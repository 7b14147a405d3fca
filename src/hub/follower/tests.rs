use std::sync::Condvar;

use super::*;
use crate::hub::Published;
use crate::hub::sink::MayWait;
use crate::hub::testing::expression;

const PATIENCE: Duration = Duration::from_secs(10);

/// What a test sink does with the third and each later event.
#[derive(Clone, Copy)]
enum Behaviour {
    /// Writes it.
    Takes,
    /// Returns an error.
    Fails,
    /// Waits for its reader while `may_wait` returns true, then fails.
    Stalls,
    /// Waits until the test ends, regardless of `may_wait`.
    Hangs,
    Panics,
    /// Returns [`SinkError::Ended`].
    Ends,
}

/// A test sink that writes the first two events and then acts by its [`Behaviour`].
struct Scripted {
    behaviour: Behaviour,
    name: &'static str,
    taken: Arc<Mutex<Vec<u64>>>,
    test_ended: Arc<(Mutex<bool>, Condvar)>,
}

impl Sink for Scripted {
    fn name(&self) -> &'static str {
        self.name
    }

    fn write(&mut self, event: &Published, may_wait: MayWait) -> Result<(), SinkError> {
        if event.seq > 2 {
            match self.behaviour {
                Behaviour::Takes => {}
                Behaviour::Fails => return Err(io::Error::from(io::ErrorKind::StorageFull).into()),
                Behaviour::Stalls => {
                    while may_wait() {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    return Err(io::Error::from(io::ErrorKind::TimedOut).into());
                }
                Behaviour::Hangs => {
                    let (ended, changed) = &*self.test_ended;
                    let ended = ended.lock().unwrap();
                    drop(changed.wait_while(ended, |ended| !*ended).unwrap());
                }
                Behaviour::Panics => panic!("a defect"),
                Behaviour::Ends => return Err(SinkError::Ended),
            }
        }
        self.taken.lock().unwrap().push(event.seq);
        Ok(())
    }
}

/// A ring with test sinks, and the losses that they have reported so far.
struct Stage {
    ring: Arc<Ring>,
    losses: Arc<Mutex<Vec<(&'static str, u64)>>>,
    followers: Vec<Follower>,
    test_ended: Arc<(Mutex<bool>, Condvar)>,
}

impl Stage {
    fn new(slots: usize) -> Stage {
        Stage {
            ring: Arc::new(Ring::new(slots, 1 << 20)),
            losses: Arc::default(),
            followers: Vec::new(),
            test_ended: Arc::default(),
        }
    }

    fn add(&mut self, name: &'static str, behaviour: Behaviour) -> Arc<Mutex<Vec<u64>>> {
        let taken = Arc::new(Mutex::new(Vec::new()));
        let sink = Scripted {
            behaviour,
            name,
            taken: taken.clone(),
            test_ended: self.test_ended.clone(),
        };
        let losses = self.losses.clone();
        let on_loss = move |name, events| losses.lock().unwrap().push((name, events));
        let follower = Follower::spawn(Box::new(sink), self.ring.reader(), Arc::new(on_loss));
        self.followers.push(follower.unwrap());
        taken
    }

    fn lost(&self, name: &str) -> u64 {
        let losses = self.losses.lock().unwrap();
        losses.iter().filter(|l| l.0 == name).map(|l| l.1).sum()
    }

    fn publish(&self, count: usize) {
        for _ in 0..count {
            self.ring.publish(expression(1, "happy", 0.5, 0));
        }
    }

    fn finish(&mut self, limit: Duration) -> Vec<Outcome> {
        self.ring.close();
        Follower::finish(std::mem::take(&mut self.followers), limit)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        *self.test_ended.0.lock().unwrap() = true;
        self.test_ended.1.notify_all();
    }
}

fn wait_for(condition: impl Fn() -> bool) {
    let goes_on = at_most(PATIENCE);
    while !condition() && goes_on() {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(condition());
}

#[test]
fn a_failing_or_panicking_sink_affects_no_other_and_its_losses_are_counted() {
    let mut stage = Stage::new(1024);
    let good = stage.add("good", Behaviour::Takes);
    let full = stage.add("full", Behaviour::Fails);
    stage.add("defective", Behaviour::Panics);
    stage.publish(10);
    // Counted while the daemon runs, not at its end.
    wait_for(|| stage.lost("full") == 8 && stage.lost("defective") == 8);
    let outcomes = stage.finish(PATIENCE);
    assert_eq!(*good.lock().unwrap(), (1..=10).collect::<Vec<_>>());
    assert_eq!(*full.lock().unwrap(), [1, 2]);
    let counts: Vec<(u64, u64)> = outcomes.iter().map(|o| (o.written, o.lost)).collect();
    assert_eq!(counts, [(10, 0), (2, 8), (2, 8)]);
    assert_eq!(stage.lost("good"), 0);
    let cause = outcomes[1].cause.as_ref().unwrap();
    assert_eq!(cause.kind(), io::ErrorKind::StorageFull);
    assert!(!outcomes[1].policy.is_error(8, outcomes[1].cause.as_ref()));
}

#[test]
fn stalled_sinks_affect_no_other_and_the_end_waits_once_for_all() {
    let mut stage = Stage::new(4);
    for name in ["stalled", "also_stalled"] {
        stage.add(name, Behaviour::Stalls);
    }
    stage.add("hanging", Behaviour::Hangs);
    let good = stage.add("good", Behaviour::Takes);
    for seq in 1..=20 {
        stage.publish(1);
        wait_for(|| good.lock().unwrap().last() == Some(&seq));
    }
    let limit = Duration::from_millis(50);
    let started = crate::time::monotonic_nanos();
    let outcomes = stage.finish(limit);
    let nanos = crate::time::monotonic_nanos() - started;
    // One wait for all of them. The ring may have been faster than a sink's first two events.
    assert!(
        nanos < 3 * (limit + LEAVING).as_nanos() as i64,
        "{nanos} ns"
    );
    for outcome in &outcomes[..3] {
        assert!(outcome.written <= 2);
        assert_eq!(outcome.written + outcome.lost, 20);
    }
    assert_eq!((outcomes[3].written, outcomes[3].lost), (20, 0));
    // Losses of a thread that returned are counted; those of one that hangs are not.
    for (name, outcome) in ["stalled", "also_stalled"].iter().zip(&outcomes) {
        assert_eq!(stage.lost(name), outcome.lost, "{name}");
    }
}

#[test]
fn events_after_the_end_of_an_output_do_not_count_as_lost() {
    let mut stage = Stage::new(1024);
    stage.add("closed", Behaviour::Ends);
    stage.publish(5);
    wait_for(|| stage.followers[0].thread.is_finished());
    stage.publish(5);
    let outcome = stage.finish(PATIENCE).remove(0);
    assert_eq!((outcome.written, stage.lost("closed")), (2, 0));
}

#[test]
fn each_loss_policy_treats_a_broken_pipe_and_a_full_disk_as_documented() {
    let left = io::Error::from(io::ErrorKind::BrokenPipe);
    let full = io::Error::from(io::ErrorKind::StorageFull);
    let is_error = LossPolicy::is_error;
    assert!(!is_error(LossPolicy::ErrorUnlessReaderLeft, 3, Some(&left)));
    assert!(is_error(LossPolicy::ErrorUnlessReaderLeft, 3, Some(&full)));
    assert!(is_error(LossPolicy::ErrorUnlessReaderLeft, 3, None));
    assert!(is_error(LossPolicy::Error, 3, Some(&left)));
    assert!(!is_error(LossPolicy::Error, 0, None));
    assert!(!is_error(LossPolicy::Counted, 3, Some(&full)));
}

/// A test sink that sends the top label of each expression as a UDP datagram, with a tokio runtime
/// of its own.
struct Datagrams {
    runtime: tokio::runtime::Runtime,
    socket: tokio::net::UdpSocket,
    to: std::net::SocketAddr,
}

impl Sink for Datagrams {
    fn name(&self) -> &'static str {
        "datagrams"
    }

    fn write(&mut self, event: &Published, _may_wait: MayWait) -> Result<(), SinkError> {
        let crate::event::Event::Expression(expression) = &*event.event else {
            return Ok(());
        };
        let send = self.socket.send_to(expression.top.as_bytes(), self.to);
        let sent = self
            .runtime
            .block_on(async { tokio::time::timeout(PATIENCE, send).await });
        sent.map_err(io::Error::from)??;
        Ok(())
    }
}

#[test]
fn a_sink_may_own_a_tokio_runtime_and_read_the_typed_event() {
    let receiver = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    receiver.set_read_timeout(Some(PATIENCE)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let socket = runtime
        .block_on(tokio::net::UdpSocket::bind("127.0.0.1:0"))
        .unwrap();
    let sink = Datagrams {
        runtime,
        socket,
        to: receiver.local_addr().unwrap(),
    };
    let ring = Arc::new(Ring::default());
    let follower = Follower::spawn(Box::new(sink), ring.reader(), Arc::new(|_, _| ())).unwrap();
    ring.publish(expression(1, "surprised", 0.5, 0));
    let mut datagram = [0; 100];
    let length = receiver.recv(&mut datagram).unwrap();
    assert_eq!(&datagram[..length], b"surprised");
    ring.close();
    let outcome = Follower::finish(vec![follower], PATIENCE).remove(0);
    assert_eq!((outcome.written, outcome.lost), (1, 0));
}

//! Tests that stalled connections do not keep the server from serving other clients.

use std::process::{Command, Stdio};

use super::*;
use expressd::serve::{Exposition, ServerState};
use rustix::process::{Resource, Rlimit, setrlimit};

/// A time limit longer than any test. With it, a connection is closed only to make room for a newer
/// one.
const FOR_EVER: Duration = Duration::from_secs(3600);
/// Number of stalled connections in a test, more than the server holds at once.
const OPEN_CONNECTIONS: usize = 100;

/// A server that holds at most 72 plain HTTP connections, without a time limit for requests.
fn without_time_limit() -> Fixture {
    Fixture::new(|settings| (settings.max_clients, settings.request_within) = (8, FOR_EVER))
}

/// Opens [`OPEN_CONNECTIONS`] connections that each send `request` and read nothing.
async fn open_connections(fixture: &Fixture, request: &[u8]) -> Vec<TcpStream> {
    let mut connections = Vec::new();
    for _ in 0..OPEN_CONNECTIONS {
        let stream = TcpStream::connect(fixture.server.addr()).await.unwrap();
        // The server does not read the whole request while its responses are unread.
        let _ = stream.try_write(request);
        connections.push(stream);
    }
    connections
}

/// Expects that the pages and a new WebSocket are served while other connections are stalled.
async fn check_other_clients_are_served(fixture: &Fixture) {
    for path in ["/healthz", "/readyz", "/metrics", "/v1/status"] {
        assert_eq!(fixture.http("GET", path, "").await.0, 200, "{path}");
    }
    let mut client = tokio::time::timeout(PATIENCE, fixture.client())
        .await
        .expect("a WebSocket in time");
    client.hello().await;
    fixture.publish(1);
    client.seqs(1).await;
}

#[test]
fn incomplete_requests_do_not_exclude_other_clients() {
    let fixture = without_time_limit();
    block_on(async {
        for begun in [
            b"".as_slice(),
            b"GET /heal",
            b"GET / HTTP/1.1\r\nHost: localhost\r\nX",
        ] {
            let connections = open_connections(&fixture, begun).await;
            check_other_clients_are_served(&fixture).await;
            drop(connections);
        }
    });
}

#[test]
fn unread_responses_do_not_exclude_other_clients() {
    let fixture = without_time_limit();
    block_on(async {
        let pipelined = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(2000);
        let connections = open_connections(&fixture, pipelined.as_bytes()).await;
        check_other_clients_are_served(&fixture).await;
        drop(connections);
    });
}

/// Clients that neither read nor answer pings hold every place but one. A new client connects
/// within seconds, and the responsive client stays connected.
#[test]
fn unresponsive_clients_do_not_exclude_new_clients() {
    const PLACES: usize = 8;
    let fixture = Fixture::new(|settings| settings.max_clients = PLACES);
    block_on(async {
        let mut reader = fixture.client().await;
        reader.hello().await;
        let reading = tokio::spawn(async move { reader.seqs(1).await });
        let mut silent = Vec::new();
        for _ in 1..PLACES {
            let mut client = fixture.client().await;
            client.hello().await;
            // The client is no longer polled, so it reads nothing and answers no ping.
            silent.push(client);
        }
        let begun = tokio::time::Instant::now();
        let mut later = loop {
            match fixture.client_with(&[]).await {
                Ok(client) => break client,
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        };
        let waited = begun.elapsed();
        assert!(waited < Duration::from_secs(6), "{waited:?}");
        later.hello().await;
        fixture.publish(1);
        later.seqs(1).await;
        reading.await.expect("the client that reads is still there");
        let text = fixture
            .server_state
            .metrics()
            .encode(Exposition::Prometheus);
        let expected = "{code=\"too_slow\"} 1\n";
        assert!(text.contains(expected), "{text}");
    });
}

/// Number of connections that the server has closed for `cause`, from its metrics.
fn connections_cut(fixture: &Fixture, cause: &str) -> u64 {
    let text = fixture
        .server_state
        .metrics()
        .encode(Exposition::Prometheus);
    let name = format!("expressd_connections_cut_total{{cause=\"{cause}\"}} ");
    text.lines()
        .find_map(|line| line.strip_prefix(&name))
        .map_or(0, |count| count.parse().expect("a count"))
}

#[test]
fn a_connection_with_unread_responses_is_closed() {
    let fixture = Fixture::new(|settings| settings.request_within = Duration::from_millis(300));
    block_on(async {
        // The responses are more than the kernel buffers for one connection, and the requests more
        // than the permitted number.
        let mut stalled = Vec::new();
        for _ in 0..20 {
            let mut stream = TcpStream::connect(fixture.server.addr()).await.unwrap();
            let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(1000);
            let _ = tokio::time::timeout(
                Duration::from_millis(10),
                stream.write_all(request.as_bytes()),
            )
            .await;
            stalled.push(stream);
        }
        let until = tokio::time::Instant::now() + PATIENCE;
        while connections_cut(&fixture, "overdue") < 20 {
            let now = tokio::time::Instant::now();
            assert!(
                now < until,
                "{} are ended",
                connections_cut(&fixture, "overdue")
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
}

#[test]
fn a_connection_is_limited_to_a_hundred_requests() {
    let fixture = Fixture::new(|_| {});
    block_on(async {
        let request = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let mut stream = TcpStream::connect(fixture.server.addr()).await.unwrap();
        stream
            .write_all(request.repeat(150).as_bytes())
            .await
            .unwrap();
        let mut answers = Vec::new();
        // The end may be a reset, because requests are unread.
        let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answers))
            .await
            .expect("the connection ends");
        let text = String::from_utf8_lossy(&answers).to_ascii_lowercase();
        assert_eq!(text.matches("http/1.1 200").count(), 100);
        assert_eq!(text.matches("connection: close").count(), 1);
    });
}

/// Environment variable that is set in the child process, which is the server.
const IN_CHILD: &str = "EXPRESSD_TEST_FEW_FILES";

/// A child process serves with few file descriptors; the test process sends the requests and then
/// asks for the child's CPU time.
#[test]
fn a_server_out_of_files_answers_and_does_not_spin() {
    if std::env::var_os(IN_CHILD).is_some() {
        serve_with_few_files();
        return;
    }
    let name = "protocol::stalled_connections::a_server_out_of_files_answers_and_does_not_spin";
    let mut child = Command::new(std::env::current_exe().expect("this test's binary"))
        .args(["--exact", name, "--nocapture"])
        .env(IN_CHILD, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("this binary runs");
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(
        child.stdout.take().expect("standard output"),
    ));
    let mut line_with = |part: &str| {
        let line = lines.find_map(|line| {
            let line = line.expect("a line");
            Some(line.split_once(part)?.1.to_owned())
        });
        line.unwrap_or_else(|| panic!("no {part}"))
    };
    let address = line_with("ADDRESS ");
    block_on(async {
        let mut connections = Vec::new();
        for _ in 0..200 {
            let mut stream = TcpStream::connect(&address).await.unwrap();
            let _ = stream.write_all(b"GET /heal").await;
            connections.push(stream);
        }
        for _ in 0..5 {
            let mut stream = TcpStream::connect(&address).await.unwrap();
            let request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
            stream.write_all(request).await.unwrap();
            assert_eq!(answer_of(stream).await.0, 200);
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
    });
    // The end of its standard input makes the child report its CPU time.
    drop(child.stdin.take());
    let used: f64 = line_with("USED ").parse().expect("seconds");
    assert!(child.wait().expect("it ends").success());
    assert!(used < 1.0, "{used} s of processor time in over 2 s");
}

/// Serves with nearly all of 64 file descriptors in use until standard input ends; prints address
/// and CPU time.
fn serve_with_few_files() {
    let few = Some(64);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: few,
            maximum: few,
        },
    )
    .expect("a lower limit");
    let fixture = Fixture::new(|settings| settings.request_within = FOR_EVER);
    // Only a few file descriptors of this process remain free.
    let open = || std::fs::File::open("/dev/null");
    let mut files: Vec<_> = std::iter::from_fn(|| open().ok()).collect();
    files.truncate(files.len() - 6);
    println!("\nADDRESS {}", fixture.server.addr());
    let _ = std::io::read_to_string(std::io::stdin());
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    println!("\nUSED {}", used.tv_sec as f64 + used.tv_nsec as f64 * 1e-9);
}

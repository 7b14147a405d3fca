//! The terminal output of `expressd run`: a line for each event, with a bar for each label's score.

use std::io::{self, IsTerminal};

use super::{Opening, SinksError};
use crate::clip::SubjectPhase;
use crate::event::{
    Event, ExpressionEvent, Scores, SourceState, SpeechPhase, StatusEvent, SubjectEvent,
    wire_decimals,
};
use crate::hub::missed::Missed;
use crate::hub::ring::Published;
use crate::hub::sink::{MayWait, Sink, SinkError};
use crate::output::Stream;
use crate::time::MediaTime;

/// Characters that fill 0 to 8 eighths of a terminal cell.
const BLOCKS: [&str; 9] = [" ", "▏", "▎", "▍", "▌", "▋", "▊", "▉", "█"];
/// Width of a bar, in terminal cells.
const BAR_CELLS: usize = 8;

/// Opens standard output if it is a terminal and no other sink uses it.
pub(super) fn open(opening: &mut Opening) -> Result<Vec<Box<dyn Sink>>, SinksError> {
    if opening.stdout_is_taken || !io::stdout().is_terminal() {
        return Ok(Vec::new());
    }
    let sink = |stream| -> Box<dyn Sink> {
        Box::new(Terminal {
            stream,
            unicode: speaks_utf8(|name| std::env::var(name).ok()),
        })
    };
    Ok(Stream::from_fd(io::stdout())
        .ok()
        .map(sink)
        .into_iter()
        .collect())
}

/// A sink that shows a line on the terminal for most events. It waits while the terminal is stopped
/// (Ctrl-S).
struct Terminal {
    stream: Stream,
    /// Whether the terminal shows Unicode; if not, ASCII is used.
    unicode: bool,
}

impl Terminal {
    fn write_line(&mut self, line: &str, may_wait: MayWait) -> Result<(), SinkError> {
        // A lost terminal ends the sink, not the daemon.
        self.stream
            .write_all(format!("{line}\n").as_bytes(), may_wait)
            .map_err(|_| SinkError::Ended)
    }
}

impl Sink for Terminal {
    fn name(&self) -> &'static str {
        "terminal"
    }

    fn write(&mut self, event: &Published, may_wait: MayWait) -> Result<(), SinkError> {
        match line(&event.event, self.unicode) {
            Some(line) => self.write_line(&line, may_wait),
            None => Ok(()),
        }
    }

    fn missed(&mut self, missed: Missed, may_wait: MayWait) -> Result<(), SinkError> {
        let line = format!(
            "          … {} events are not shown: the terminal is too slow",
            missed.count
        );
        self.write_line(&line, may_wait)
    }
}

/// Whether the locale's encoding is UTF-8. `variable` returns an environment variable.
fn speaks_utf8(variable: impl Fn(&str) -> Option<String>) -> bool {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
        .into_iter()
        .filter_map(variable)
        .find(|value| !value.is_empty())
        .unwrap_or_default();
    // Without any setting, as in a bare container, current terminals draw Unicode.
    locale.is_empty()
        || locale == "C.UTF-8"
        || locale
            .to_ascii_lowercase()
            .replace('-', "")
            .contains("utf8")
}

/// The terminal's line for an event; `None` if the event is not shown. An `updated` subject and a
/// status without a lost source are not shown.
fn line(event: &Event, unicode: bool) -> Option<String> {
    match event {
        Event::Subject(subject) => subject_line(subject),
        Event::Expression(expression) => Some(expression_line(expression, unicode)),
        Event::Status(status) => status_line(status),
        // Speech, and every type without a line of its own.
        _ => Some(plain_line(event)),
    }
}

/// The time in seconds, ten columns wide. A line without a time begins with ten spaces instead.
fn seconds(time: MediaTime) -> String {
    format!("{:9.2}s", time.secs_f64())
}

fn subject_line(event: &SubjectEvent) -> Option<String> {
    let (at, subject) = (seconds(event.time_ns), event.subject.to_string());
    let change = match event.phase {
        SubjectPhase::Updated => return None,
        SubjectPhase::Appeared => "appeared".to_owned(),
        SubjectPhase::Lost => "lost".to_owned(),
        SubjectPhase::Merged => {
            let into = event.into.map_or_else(String::new, |into| into.to_string());
            format!("merged into {into}")
        }
    };
    Some(format!("{at} {subject:<6} {change}"))
}

fn expression_line(event: &ExpressionEvent, unicode: bool) -> String {
    let abstain = match (event.abstain, unicode) {
        (false, _) => "",
        (true, true) => " – abstains",
        (true, false) => " - abstains",
    };
    let Scores(scores) = &event.scores;
    let bars: Vec<String> = scores
        .iter()
        .map(|(label, score)| {
            let label: String = label.chars().take(7).collect();
            format!("{label} {}", bar(wire_decimals(*score), unicode))
        })
        .collect();
    format!(
        "{} {:<6} {:<9} {:4.2}  {}{abstain}",
        seconds(event.end_ns),
        event.subject.to_string(),
        event.top,
        wire_decimals(event.confidence),
        bars.join(" ")
    )
}

/// A line with the event's time, subject, type and phase. The content is not shown, because it may
/// be private.
fn plain_line(event: &Event) -> String {
    let payload = event.payload();
    let at = payload.time().map_or_else(|| " ".repeat(10), seconds);
    let subject = payload
        .subject()
        .map_or_else(|| "?".to_owned(), |subject| subject.to_string());
    let phase = match event {
        Event::Speech(speech) => match speech.phase {
            SpeechPhase::Start => " start",
            SpeechPhase::Partial => " partial",
            SpeechPhase::Final => " final",
            SpeechPhase::End => " end",
        },
        _ => "",
    };
    format!("{at} {subject:<6} {}{phase}", event.kind())
}

/// A line that names the lost sources with the reasons; `None` if no source is lost.
fn status_line(event: &StatusEvent) -> Option<String> {
    let sources = [
        ("video", &event.sources.video),
        ("audio", &event.sources.audio),
    ];
    let lost: Vec<String> = sources
        .into_iter()
        .filter(|(_, source)| source.state == SourceState::Lost)
        .map(|(name, source)| {
            let reason = source.reason.as_deref().unwrap_or("no reason given");
            format!("{name} lost: {reason}")
        })
        .collect();
    (!lost.is_empty()).then(|| format!("{} status {}", " ".repeat(10), lost.join("; ")))
}

/// A bar of [`BAR_CELLS`] cells that is filled in proportion to `share`, 0..1.
fn bar(share: f64, unicode: bool) -> String {
    let share = share.clamp(0.0, 1.0);
    if !unicode {
        let full = (share * BAR_CELLS as f64).round() as usize;
        return format!("{}{}", "#".repeat(full), ".".repeat(BAR_CELLS - full));
    }
    let eighths = (share * (BAR_CELLS * 8) as f64).round() as usize;
    (0..BAR_CELLS)
        .map(|cell| BLOCKS[eighths.saturating_sub(cell * 8).min(8)])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clip::SubjectId;
    use crate::event::{SourceStatus, Sources};
    use crate::hub::testing::{expression, words};

    #[test]
    fn an_expression_is_one_line_with_a_bar_for_each_label() {
        let mut event = expression(3, "happy", 0.8123, 83_200);
        if let Event::Expression(event) = &mut event {
            event.scores = Scores(vec![("happy".into(), 0.75), ("sad".into(), 0.25)]);
            event.abstain = true;
        }
        assert_eq!(
            line(&event, false).unwrap(),
            "    83.20s s3     happy     0.81  happy ######.. sad ##...... - abstains"
        );
        assert_eq!(
            line(&event, true).unwrap(),
            "    83.20s s3     happy     0.81  happy ██████   sad ██       – abstains"
        );
    }

    #[test]
    fn a_bar_has_the_same_width_for_every_share() {
        for i in 0..=100 {
            assert_eq!(bar(f64::from(i) / 100.0, true).chars().count(), BAR_CELLS);
            assert_eq!(bar(f64::from(i) / 100.0, false).len(), BAR_CELLS);
        }
        assert_eq!(bar(1.0, true), "█".repeat(BAR_CELLS));
    }

    #[test]
    fn updated_subjects_and_working_sources_are_not_shown() {
        let subject = |phase, into| {
            Event::Subject(SubjectEvent {
                subject: SubjectId::Face(1),
                time_ns: MediaTime::ZERO,
                phase,
                into,
                rect: [0.0; 4],
                quality: 1.0,
            })
        };
        assert_eq!(line(&subject(SubjectPhase::Updated, None), true), None);
        assert_eq!(
            line(&subject(SubjectPhase::Lost, None), true).unwrap(),
            "     0.00s s1     lost"
        );
        assert_eq!(
            line(&subject(SubjectPhase::Merged, Some(SubjectId::Voice)), true).unwrap(),
            "     0.00s s1     merged into voice"
        );
        let status = |state, reason: Option<&str>| {
            let source = |state, reason: Option<&str>| SourceStatus {
                state,
                reason: reason.map(str::to_owned),
                origin_ns: None,
            };
            Event::Status(StatusEvent {
                sources: Sources {
                    video: source(state, reason),
                    audio: source(SourceState::Off, None),
                },
                degraded: "none",
                paused: false,
                counters: Default::default(),
            })
        };
        assert_eq!(line(&status(SourceState::Delivering, None), true), None);
        let lost = line(&status(SourceState::Lost, Some("unplugged")), true);
        assert!(lost.unwrap().contains("video lost: unplugged"));
    }

    #[test]
    fn a_line_of_speech_has_no_text() {
        assert_eq!(
            line(&words(10), true).unwrap(),
            "     0.00s ?      speech partial"
        );
    }
}

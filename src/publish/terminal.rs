//! What a person sees in the terminal of `run`: a line for each event, a bar for each label.

use std::io::{self, IsTerminal};
use std::time::Duration;

use serde_json::Value;

use super::ring::{Read, Reader};
use super::sink_thread::SinkThread;
use crate::output::Stream;

/// Eighths of a cell.
const BLOCKS: [&str; 9] = [" ", "▏", "▎", "▍", "▌", "▋", "▊", "▉", "█"];
const BAR_CELLS: usize = 8;

/// Follows the ring and writes a line for each event to standard output, on a thread of its own, until the ring is closed.
/// `None` where standard output is no terminal. A terminal that takes nothing (Ctrl-S) is waited
/// for; what the ring lets go of meanwhile is counted there.
pub fn follow(mut reader: Reader) -> io::Result<Option<SinkThread>> {
    if !io::stdout().is_terminal() {
        return Ok(None);
    }
    let unicode = speaks_utf8(|name| std::env::var(name).ok());
    let mut terminal = Stream::of(io::stdout())?;
    let thread = SinkThread::spawn("terminal", move |goes_on| {
        loop {
            let line = match reader.read(Duration::from_secs(1)) {
                Read::Frame { frame, .. } => serde_json::from_str(&frame)
                    .ok()
                    .and_then(|frame| line(&frame, unicode)),
                Read::Missed(missed) => Some(format!(
                    "          … {} events passed too fast to be shown",
                    missed.count
                )),
                Read::TimedOut => None,
                Read::Ended => return,
            };
            if let Some(line) = line
                && terminal
                    .put(format!("{line}\n").as_bytes(), &|| goes_on.holds())
                    .is_err()
            {
                // The terminal is gone; the daemon is not a terminal program.
                return;
            }
        }
    })?;
    Ok(Some(thread))
}

fn speaks_utf8(variable: impl Fn(&str) -> Option<String>) -> bool {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
        .into_iter()
        .filter_map(variable)
        .find(|value| !value.is_empty())
        .unwrap_or_default();
    // Without any setting, as in a bare container, terminals of today still draw Unicode.
    locale.is_empty()
        || locale == "C.UTF-8"
        || locale
            .to_ascii_lowercase()
            .replace('-', "")
            .contains("utf8")
}

/// The line for a frame; `None` for one that is not worth a line (a face that moved, a status where all is well).
pub fn line(frame: &Value, unicode: bool) -> Option<String> {
    let seconds = |field: &str| {
        frame[field].as_i64().map_or_else(
            || " ".repeat(10),
            |nanos| format!("{:9.2}s", nanos as f64 * 1e-9),
        )
    };
    let text = |field: &str| frame[field].as_str().unwrap_or("").to_owned();
    match frame["type"].as_str()? {
        "expression" => {
            let abstain = if frame["abstain"] == true {
                if unicode {
                    " – abstains"
                } else {
                    " - abstains"
                }
            } else {
                ""
            };
            let bars: Vec<String> = frame["scores"]
                .as_object()?
                .iter()
                .map(|(label, score)| {
                    format!(
                        "{} {}",
                        label.chars().take(7).collect::<String>(),
                        bar(score.as_f64().unwrap_or(0.0), unicode)
                    )
                })
                .collect();
            let confidence = frame["confidence"].as_f64().unwrap_or(0.0);
            Some(format!(
                "{} {:<6} {:<9} {confidence:4.2}  {}{abstain}",
                seconds("end_ns"),
                text("subject"),
                text("top"),
                bars.join(" ")
            ))
        }
        "subject" => match text("phase").as_str() {
            "updated" => None,
            "merged" => Some(format!(
                "{} {:<6} merged into {}",
                seconds("time_ns"),
                text("subject"),
                text("into")
            )),
            phase => Some(format!(
                "{} {:<6} {phase}",
                seconds("time_ns"),
                text("subject")
            )),
        },
        "speech" => {
            let at = if frame["end_ns"].is_null() {
                seconds("start_ns")
            } else {
                seconds("end_ns")
            };
            Some(format!(
                "{at} {:<6} speech {}",
                frame["owner"].as_str().unwrap_or("?"),
                text("phase")
            ))
        }
        "status" => {
            let lost: Vec<String> = ["video", "audio"]
                .into_iter()
                .filter(|source| frame["sources"][source]["state"] == "lost")
                .map(|source| {
                    format!(
                        "{source} lost: {}",
                        frame["sources"][source]["reason"]
                            .as_str()
                            .unwrap_or("no reason given")
                    )
                })
                .collect();
            (!lost.is_empty()).then(|| format!("{} status {}", " ".repeat(10), lost.join("; ")))
        }
        _ => None,
    }
}

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
    use serde_json::json;

    use super::*;

    #[test]
    fn an_expression_is_one_line_with_a_bar_for_each_label() {
        let frame = json!({"type": "expression", "seq": 1, "subject": "s3", "end_ns": 83_200_000_000_i64, "scores": {"happy": 0.75, "sad": 0.25}, "top": "happy", "confidence": 0.8123, "abstain": true});
        assert_eq!(
            line(&frame, false).unwrap(),
            "    83.20s s3     happy     0.81  happy ######.. sad ##...... - abstains"
        );
        assert_eq!(
            line(&frame, true).unwrap(),
            "    83.20s s3     happy     0.81  happy ██████   sad ██       – abstains"
        );
    }

    #[test]
    fn bars_are_always_as_wide() {
        for i in 0..=100 {
            assert_eq!(bar(f64::from(i) / 100.0, true).chars().count(), BAR_CELLS);
            assert_eq!(bar(f64::from(i) / 100.0, false).len(), BAR_CELLS);
        }
        assert_eq!(bar(1.0, true), "█".repeat(BAR_CELLS));
    }

    #[test]
    fn only_what_is_news_is_shown() {
        assert_eq!(
            line(
                &json!({"type": "subject", "subject": "s1", "phase": "updated", "time_ns": 0}),
                true
            ),
            None
        );
        assert!(
            line(
                &json!({"type": "subject", "subject": "s1", "phase": "lost", "time_ns": 0}),
                true
            )
            .is_some()
        );
        let well = json!({"type": "status", "sources": {"video": {"state": "delivering"}, "audio": {"state": "off"}}});
        assert_eq!(line(&well, true), None);
        let ill = json!({"type": "status", "sources": {"video": {"state": "lost", "reason": "unplugged"}, "audio": {"state": "off"}}});
        assert!(line(&ill, true).unwrap().contains("video lost: unplugged"));
    }
}

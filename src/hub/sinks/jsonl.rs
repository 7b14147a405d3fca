//! JSON Lines of `replay`: each event of the offline form is a line of a file or a pipe.

use std::io::{self, Write};

use crate::event::{Event, Form};

/// Writes the offline form: `seq` counts the written events. It waits for the disk and loses
/// nothing.
pub struct JsonLines<W: Write> {
    out: W,
    written: u64,
    /// The first member of every line, if several recordings share one file.
    recording: Option<String>,
}

impl<W: Write> JsonLines<W> {
    /// Writes to `out`, for one recording.
    pub fn new(out: W) -> Self {
        JsonLines {
            out,
            written: 0,
            recording: None,
        }
    }

    /// Starts a recording: `seq` starts again at 1.
    pub fn begin(&mut self, recording: Option<String>) {
        (self.written, self.recording) = (0, recording);
    }

    /// Takes the output over: an existing file is truncated now, even if no event follows.
    pub fn start(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// Writes the event if it is part of the offline form, and flushes, so that a pipe's reader
    /// gets it at once.
    pub fn write(&mut self, event: &Event) -> io::Result<()> {
        if !event.is_offline() {
            return Ok(());
        }
        self.written += 1;
        let mut line = event.to_json(self.written, Form::Offline);
        if let Some(recording) = &self.recording {
            line.replace_range(
                ..1,
                &format!(
                    "{{\"recording\":{},",
                    serde_json::Value::from(recording.as_str())
                ),
            );
        }
        line.push('\n');
        self.out.write_all(line.as_bytes())?;
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::testing::expression;

    #[test]
    fn the_offline_form_counts_written_events() {
        let mut lines = JsonLines::new(Vec::new());
        lines.write(&expression(1, "happy", 0.5, 0)).unwrap();
        lines.write(&expression(1, "sad", 0.5, 200)).unwrap();
        lines.begin(Some("a.mp4".into()));
        lines.write(&expression(1, "sad", 0.5, 0)).unwrap();
        let text = String::from_utf8(lines.out).unwrap();
        assert!(
            text.lines()
                .nth(2)
                .unwrap()
                .starts_with(r#"{"recording":"a.mp4","type":"expression","seq":1,"#),
            "{text}"
        );
        assert!(
            text.lines()
                .nth(1)
                .unwrap()
                .starts_with(r#"{"type":"expression","seq":2,"#),
            "{text}"
        );
        assert!(
            !text.contains("age_ms") && !text.contains("latency_ms"),
            "{text}"
        );
    }
}

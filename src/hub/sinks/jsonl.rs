//! The JSON Lines output of `expressd replay`: one line in a file or pipe for each event, in the
//! offline form.

use std::io::{self, Write};

use crate::event::{Event, Form};

/// Writes events as JSON lines in the offline form, in which `seq` counts the written events. It
/// waits for the disk and loses no event.
pub struct JsonLines<W: Write> {
    out: W,
    /// Number of written events of the current recording.
    written: u64,
    /// The value of the first field, `recording`, of every line; `None`: lines have no such field.
    recording: Option<String>,
}

impl<W: Write> JsonLines<W> {
    /// Writes the events of a single recording to `out`. For several recordings in one file, call
    /// [`Self::begin`] before each.
    pub fn new(out: W) -> Self {
        JsonLines {
            out,
            written: 0,
            recording: None,
        }
    }

    /// Starts the next recording: `seq` starts again at 1. Each of its lines begins with the field
    /// `recording`, if a name is given.
    pub fn begin(&mut self, recording: Option<String>) {
        (self.written, self.recording) = (0, recording);
    }

    /// Flushes the output before the first event. An [`OutFile`](super::super::out_file::OutFile)
    /// truncates an existing file then, even if no event follows.
    ///
    /// # Errors
    /// The output cannot be written.
    pub fn start(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// Writes `event` if it is part of the offline form; other events are ignored. Flushes, so that
    /// the reader of a pipe gets the line at once.
    ///
    /// # Errors
    /// The output cannot be written.
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
    fn lines_are_in_the_offline_form_with_seq_from_1_for_each_recording() {
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

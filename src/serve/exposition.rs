//! The two text formats of `/metrics`, and the choice between them by `Accept`.

use axum::http::{HeaderMap, header};

/// A text format that Prometheus reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposition {
    /// Prometheus' own format, version 0.0.4; the default.
    Prometheus,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
}

impl Exposition {
    /// The value of the header `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Exposition::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Exposition::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// The format with the highest weight in the header `Accept` (RFC 9110, 12.5.1). If the header
    /// accepts neither, it is Prometheus' format, as in Prometheus' own exporters.
    pub(super) fn accepted(headers: &HeaderMap) -> Exposition {
        let ranges: Vec<Range> = headers
            .get_all(header::ACCEPT)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(Range::parse)
            .collect();
        let text = weight(&ranges, "text", "plain", &["0.0.4"]);
        let open = weight(
            &ranges,
            "application",
            "openmetrics-text",
            &["1.0.0", "0.0.1"],
        );
        // Ties go to the more specific range.
        if open.0 > 0.0 && open > text {
            Exposition::OpenMetrics
        } else {
            Exposition::Prometheus
        }
    }
}

/// A media range of the header `Accept`, such as `text/plain;version=0.0.4;q=0.5`.
struct Range {
    kind: String,
    subtype: String,
    version: Option<String>,
    weight: f32,
}

impl Range {
    /// Parses one media range; `None` if it is malformed.
    fn parse(text: &str) -> Option<Range> {
        let mut parts = text.split(';').map(str::trim);
        let (kind, subtype) = parts.next()?.split_once('/')?;
        let mut range = Range {
            kind: kind.to_ascii_lowercase(),
            subtype: subtype.to_ascii_lowercase(),
            version: None,
            weight: 1.0,
        };
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            let value = value.trim().trim_matches('"');
            match name.trim().to_ascii_lowercase().as_str() {
                "q" => range.weight = value.parse().ok().filter(|q| (0.0..=1.0).contains(q))?,
                "version" => range.version = Some(value.to_owned()),
                _ => {}
            }
        }
        Some(range)
    }

    /// How specifically the range matches the media type `kind/subtype` in one of `versions`: 0 for
    /// `*/*` to 3 for an equal version. `None` if it does not match.
    fn names(&self, kind: &str, subtype: &str, versions: &[&str]) -> Option<u8> {
        match (self.kind.as_str(), self.subtype.as_str(), &self.version) {
            ("*", "*", _) => Some(0),
            (k, "*", _) if k == kind => Some(1),
            (k, s, None) if k == kind && s == subtype => Some(2),
            (k, s, Some(version)) if k == kind && s == subtype => {
                versions.contains(&version.as_str()).then_some(3)
            }
            _ => None,
        }
    }
}

/// The weight (0..1) that `ranges` give to a media type, and the specificity (0 to 3) of the range
/// that determines it, which is the most specific one that matches.
fn weight(ranges: &[Range], kind: &str, subtype: &str, versions: &[&str]) -> (f32, u8) {
    ranges
        .iter()
        .filter_map(|range| Some((range.names(kind, subtype, versions)?, range.weight)))
        .max_by(|one, other| one.0.cmp(&other.0).then(one.1.total_cmp(&other.1)))
        .map_or((0.0, 0), |(exactness, weight)| (weight, exactness))
}

/// Converts OpenMetrics text to Prometheus' format. In Prometheus' format a counter's `HELP` and
/// `TYPE` have the suffix `_total`, and the lines `UNIT` and `EOF` do not exist.
pub(super) fn prometheus_text(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    let mut lines = open_metrics.lines().peekable();
    while let Some(line) = lines.next() {
        let comment = line.strip_prefix("# ");
        match comment.and_then(|comment| comment.split_once(' ')) {
            Some(("UNIT", _)) => continue,
            None if line == "# EOF" => continue,
            Some((keyword @ ("HELP" | "TYPE"), rest)) => {
                let (name, rest) = rest.split_once(' ').unwrap_or((rest, ""));
                // HELP comes right before TYPE.
                let of_type = if keyword == "TYPE" {
                    Some(rest)
                } else {
                    lines
                        .peek()
                        .and_then(|next| next.strip_prefix("# TYPE "))
                        .and_then(|next| next.strip_prefix(name))
                        .map(str::trim_start)
                };
                let suffix = if of_type == Some("counter") {
                    "_total"
                } else {
                    ""
                };
                text.push_str(&format!("# {keyword} {name}{suffix} {rest}\n"));
            }
            _ => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(accept: &[&str]) -> Exposition {
        let mut headers = HeaderMap::new();
        for value in accept {
            headers.append(header::ACCEPT, value.parse().unwrap());
        }
        Exposition::accepted(&headers)
    }

    #[test]
    fn the_header_accept_selects_the_format_and_prometheus_is_the_default() {
        use Exposition::{OpenMetrics, Prometheus};
        for (accept, expected) in [
            (&[][..], Prometheus),
            (&["*/*"], Prometheus),
            (&["text/plain"], Prometheus),
            (&["text/*"], Prometheus),
            (&["text/html,application/xhtml+xml,*/*;q=0.8"], Prometheus),
            (&["application/json"], Prometheus),
            (&["application/openmetrics-text"], OpenMetrics),
            (
                &["application/OpenMetrics-text; version=1.0.0"],
                OpenMetrics,
            ),
            (
                &["application/openmetrics-text;version=\"0.0.1\""],
                OpenMetrics,
            ),
            (&["application/openmetrics-text;version=2.0.0"], Prometheus),
            (&["application/*"], OpenMetrics),
            (&["*/*, application/openmetrics-text"], OpenMetrics),
            (&["*/*", "application/openmetrics-text"], OpenMetrics),
            (&["application/openmetrics-text;q=0"], Prometheus),
            (
                &["application/openmetrics-text;q=0.4,text/plain;q=0.5"],
                Prometheus,
            ),
            (
                &["text/plain;q=0.4,application/openmetrics-text;q=0.5"],
                OpenMetrics,
            ),
            (
                &["text/plain;q=0,application/openmetrics-text;q=0.001"],
                OpenMetrics,
            ),
            (&["application/openmetrics-text;q=x"], Prometheus),
            // Headers of Prometheus 2 and 3.
            (
                &["application/openmetrics-text;version=1.0.0,\
                     application/openmetrics-text;version=0.0.1;q=0.75,\
                     text/plain;version=0.0.4;q=0.5,*/*;q=0.1"],
                OpenMetrics,
            ),
            (
                &[
                    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                     application/openmetrics-text;version=0.0.1;q=0.4,\
                     text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,\
                     text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
                ],
                OpenMetrics,
            ),
            (
                &[
                    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;\
                     encoding=delimited;q=0.6,text/plain;version=0.0.4;q=0.5,\
                     application/openmetrics-text;q=0.2",
                ],
                Prometheus,
            ),
        ] {
            assert_eq!(accepted(accept), expected, "{accept:?}");
        }
    }

    #[test]
    fn open_metrics_text_is_converted_to_prometheus_text() {
        let open = "# HELP a_b Help counter.\n# TYPE a_b counter\na_b_total{c=\"# EOF\"} 1\n\
            # HELP d_seconds Time.\n# TYPE d_seconds histogram\n# UNIT d_seconds seconds\n\
            d_seconds_sum 0.5\n# HELP e Depth.\n# TYPE e gauge\ne 2\n# EOF\n";
        let text = "# HELP a_b_total Help counter.\n# TYPE a_b_total counter\n\
            a_b_total{c=\"# EOF\"} 1\n# HELP d_seconds Time.\n# TYPE d_seconds histogram\n\
            d_seconds_sum 0.5\n# HELP e Depth.\n# TYPE e gauge\ne 2\n";
        assert_eq!(prometheus_text(open), text);
    }
}

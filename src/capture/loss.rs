//! The cause of the loss of a video source, and the pause before the source is opened again.

use std::time::Duration;

use gstreamer as gst;
use gstreamer::prelude::*;

use super::pipeline::reason;
use super::spec::VideoSpec;

/// Shortest pause after a server answered with an error.
const FIRST_PAUSE_REFUSED: Duration = Duration::from_secs(2);
/// Longest pause after a server answered with an error.
const LONGEST_PAUSE_REFUSED: Duration = Duration::from_secs(30);
/// Pause after a server refused the user name or password. Cameras lock an account for minutes
/// after a few wrong passwords.
const PAUSE_UNAUTHORISED: Duration = Duration::from_secs(60);

/// The kind of fault that lost a source. It decides how soon another attempt can succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// The source is absent, or the connection broke: it may return at any moment.
    Unavailable,
    /// A server answered with an error.
    Refused,
    /// A server refused the user name or password.
    Unauthorised,
}

/// The reason why one attempt to capture from a source ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Loss {
    /// The reason as text, for `status`.
    pub reason: String,
    pub cause: Cause,
}

impl Loss {
    /// The loss of a source that is absent or whose connection broke.
    pub fn unavailable(reason: impl Into<String>) -> Loss {
        Loss {
            reason: reason.into(),
            cause: Cause::Unavailable,
        }
    }

    /// The loss that an error of GStreamer causes. `missing`: name of a decoder that is not
    /// installed, if the pipeline reported one.
    pub fn from_error(
        error: &gst::message::Error,
        missing: Option<&str>,
        spec: &VideoSpec,
    ) -> Loss {
        let debug = error.debug().unwrap_or_default();
        let factory = error
            .src()
            .and_then(|source| source.downcast_ref::<gst::Element>())
            .and_then(|element| element.factory())
            .map(|factory| factory.name().to_string());
        let mut loss = match http_status(&debug) {
            Some(status) if error.error().is::<gst::ResourceError>() => {
                Loss::from_status(status, spec)
            }
            _ if error.error().matches(gst::ResourceError::NotAuthorized) => {
                Loss::from_status(401, spec)
            }
            _ => Loss::unavailable(match (missing, factory.as_deref()) {
                (Some(missing), _) => format!(
                    "{missing} is not installed; install gstreamer1.0-libav and \
                     gstreamer1.0-plugins-good, -bad and -ugly"
                ),
                (None, Some("souphttpsrc")) => {
                    "the server cannot be reached, or it closed the connection".into()
                }
                // GStreamer's message may quote the source's address.
                (None, _) => spec.redact_in(&reason(error)),
            }),
        };
        if let VideoSpec::Uri(address) = spec
            && is_badly_escaped(address.expose())
        {
            loss.reason.push_str("; ");
            loss.reason.push_str(ESCAPE_REMEDY);
            if loss.cause == Cause::Unavailable {
                loss.cause = Cause::Refused;
            }
        }
        loss
    }

    /// The loss that an HTTP or RTSP response with this error status causes.
    fn from_status(status: u16, spec: &VideoSpec) -> Loss {
        let (cause, reason) = match status {
            401 | 407 if names_user(spec) => (
                Cause::Unauthorised,
                "the user name or the password is refused (401); the next attempt is in a minute, \
                 because cameras lock accounts: correct them in the source's address"
                    .into(),
            ),
            401 | 407 => (
                Cause::Unauthorised,
                "a user name and a password are required (401); write them into the source's \
                 address, before the host, as <user>:<password>@"
                    .into(),
            ),
            403 => (
                Cause::Unauthorised,
                "access is forbidden (403); the next attempt is in a minute: check the user's \
                 rights, and whether the camera has locked the account"
                    .into(),
            ),
            404 | 410 => (
                Cause::Refused,
                format!(
                    "the server answers {status}, there is no such stream; check the address's path"
                ),
            ),
            _ => (
                Cause::Refused,
                format!("the server answers with the error {status}; look at the server's log"),
            ),
        };
        Loss { reason, cause }
    }
}

impl Cause {
    /// The pause after this loss; `before` is the previous pause. `None`: the pause of the kind of
    /// source applies.
    pub fn pause(self, before: Duration) -> Option<Duration> {
        match self {
            Cause::Unavailable => None,
            Cause::Refused => Some((before * 2).clamp(FIRST_PAUSE_REFUSED, LONGEST_PAUSE_REFUSED)),
            Cause::Unauthorised => Some(PAUSE_UNAUTHORISED),
        }
    }
}

/// Remedy for an address with unescaped characters in its user name or password.
pub(super) const ESCAPE_REMEDY: &str = "in the address, the user name or the password has \
    characters that must be percent-encoded: write % as %25, @ as %40, : as %3A, / as %2F, \
    # as %23, ? as %3F";

/// Whether the user name or password in this address has unescaped characters that end it too
/// early.
pub(super) fn is_badly_escaped(address: &str) -> bool {
    let Some((_, rest)) = address.split_once("://") else {
        return false;
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    match authority.rsplit_once('@') {
        Some((user, host)) => {
            let mut escapes = user.split('%').skip(1);
            // If an '@' follows the authority, the apparent host may be the rest of a password.
            let host = host.split(':').next().unwrap_or_default();
            let is_plain = host.contains('.') || host.starts_with('[') || host == "localhost";
            (!is_plain && rest[authority.len()..].contains('@'))
                || user.contains('@')
                || escapes.any(|after| {
                    !after
                        .get(..2)
                        .is_some_and(|hex| hex.chars().all(|c| c.is_ascii_hexdigit()))
                })
        }
        None => is_unusable(address),
    }
}

/// Whether a `/`, `#` or `?` in the user name or password ends the authority of the address before
/// its host, so that no valid host and port are left.
pub(super) fn is_unusable(address: &str) -> bool {
    let Some((_, rest)) = address.split_once("://") else {
        return false;
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let port = authority.rsplit_once(':').map(|(_, port)| port);
    !authority.contains(['@', '['])
        && rest.contains('@')
        && port.is_some_and(|port| !port.chars().all(|c| c.is_ascii_digit()))
}

/// Whether the address or description of the source contains a user name.
fn names_user(spec: &VideoSpec) -> bool {
    match spec {
        VideoSpec::Uri(address) => address
            .expose()
            .split_once("://")
            .and_then(|(_, rest)| rest.split(['/', '?', '#']).next())
            .is_some_and(|authority| authority.contains('@')),
        VideoSpec::Gst(description) => {
            let description = description.expose();
            description.contains("user-id") || description.contains('@')
        }
        _ => false,
    }
}

/// The status of an HTTP or RTSP response in the last line of GStreamer's debug text, for example
/// in `Not Found (404), URL: …` or `Got error response: 503 (…)`. `None` if there is none.
fn http_status(debug: &str) -> Option<u16> {
    let words = debug.lines().last()?.split(", URL:").next()?;
    let mut numbers = words.split(|c: char| !c.is_ascii_digit());
    numbers.find_map(|number| {
        let status = number.parse().ok()?;
        (400..600).contains(&status).then_some(status)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unescaped_passwords_in_addresses_are_recognised() {
        for address in [
            "rtsp://admin:p@ss@10.0.0.2/live",
            "rtsp://admin:pass/word@10.0.0.2/live",
            "rtsp://admin:p@ss/w#1@10.0.0.2/live",
            "rtsp://admin:pass#1@10.0.0.2:554/live",
            "rtsp://admin:pass?1@10.0.0.2:554/live",
            "http://admin:50%off@camera/video",
        ] {
            assert!(is_badly_escaped(address), "{address}");
        }
        assert!(is_unusable("rtsp://admin:pass/word@10.0.0.2/live"));
        assert!(!is_unusable("rtsp://admin:p@ss/w#1@10.0.0.2/live"));
        for address in [
            "rtsp://admin:p%40ss%2Fword%231@10.0.0.2:554/live",
            "rtsp://10.0.0.2:554/user@home",
            "rtsp://admin:pass@10.0.0.2:554/user@home",
            "rtsp://[fe80::1]:554/a@b",
            "rtsp://[fe80::1]/a@b",
            "rtsp://admin@10.0.0.2/live",
            "http://camera/video?user=a@b",
            "/a:b/c@d.mp4",
        ] {
            assert!(!is_badly_escaped(address), "{address}");
        }
    }

    #[test]
    fn the_status_is_read_from_debug_text() {
        for (debug, status) in [
            (
                "../gst/rtsp/gstrtspsrc.c(6899): gst_rtspsrc_send ():\nUnauthorized (401)",
                Some(401),
            ),
            (
                "gstsouphttpsrc.c(1900): x ():\nNot Found (404), URL: http://x/(500)a, \
                 Redirect to: (NULL)",
                Some(404),
            ),
            (
                "gstrtspsrc.c(6904): gst_rtspsrc_send ():\nGot error response: 503 \
                 (Service Unavailable).",
                Some(503),
            ),
            (
                "gstrtspsrc.c(404): x ():\nFailed to connect. (Generic error)",
                None,
            ),
        ] {
            assert_eq!(http_status(debug), status, "{debug}");
        }
    }

    #[test]
    fn refusals_back_off_and_wrong_passwords_wait_a_minute() {
        let mut pause = Duration::ZERO;
        let pauses: Vec<u64> = (0..6)
            .map(|_| {
                pause = Cause::Refused.pause(pause).unwrap();
                pause.as_secs()
            })
            .collect();
        assert_eq!(pauses, [2, 4, 8, 16, 30, 30]);
        assert_eq!(
            Cause::Unauthorised.pause(Duration::ZERO),
            Some(Duration::from_secs(60))
        );
        assert_eq!(Cause::Unavailable.pause(pause), None);
    }
}

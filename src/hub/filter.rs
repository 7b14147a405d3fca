//! Matches events against a client's subscription.

use std::collections::HashMap;

use crate::clip::SubjectId;
use crate::event::{Event, Subscription, wire_decimals};
use crate::time::MediaTime;

/// The fields of an event that a subscription filters by.
#[derive(Clone, Copy, Debug)]
pub(super) struct FilterKeys<'a> {
    /// The event's type, for example `"expression"`.
    pub kind: &'static str,
    /// The event's subject (of a `speech` event, the speaker); `None` if it has none.
    pub subject: Option<SubjectId>,
    /// The subject that the event's subject was merged into; `None` for any other event.
    pub into: Option<SubjectId>,
    /// Further fields of an `expression` event; `None` for other types.
    pub expression: Option<ExpressionKeys<'a>>,
}

/// The fields of an `expression` event that a subscription filters by.
#[derive(Clone, Copy, Debug)]
pub(super) struct ExpressionKeys<'a> {
    pub subject: SubjectId,
    /// The label with the highest score.
    pub top: &'a str,
    /// Calibrated probability of `top`, 0..1, not rounded.
    pub confidence: f32,
    /// End of the clip's window.
    pub end_ns: MediaTime,
}

impl<'a> FilterKeys<'a> {
    pub fn from_event(event: &'a Event) -> Self {
        let payload = event.payload();
        let expression = match event {
            Event::Expression(e) => Some(ExpressionKeys {
                subject: e.subject,
                top: &e.top,
                confidence: e.confidence,
                end_ns: e.end_ns,
            }),
            _ => None,
        };
        FilterKeys {
            kind: event.kind(),
            subject: payload.subject(),
            into: payload.merged_into(),
            expression,
        }
    }
}

/// A subscription and the state of its rate limit.
pub(super) struct Filter {
    pub subscription: Subscription,
    /// `end_ns` of each subject's newest `expression` event that passed the rate limit.
    last_end: HashMap<SubjectId, MediaTime>,
}

impl Filter {
    pub fn new(subscription: Subscription) -> Self {
        Filter {
            subscription,
            last_end: HashMap::new(),
        }
    }

    /// Whether the subscription includes the event. Must be called once for each event, in order of
    /// `seq`, because the rate limit depends on earlier events.
    pub fn passes(&mut self, event: FilterKeys<'_>) -> bool {
        let wanted = &self.subscription;
        if wanted
            .events
            .as_ref()
            .is_some_and(|kinds| !kinds.contains(&event.kind))
        {
            return false;
        }
        if let Some(subjects) = &wanted.subjects {
            // An empty list excludes every event, also those without a subject.
            let has = |subject: Option<SubjectId>| subject.is_some_and(|s| subjects.contains(&s));
            if subjects.is_empty()
                || (event.subject.is_some() && !has(event.subject) && !has(event.into))
            {
                return false;
            }
        }
        if wanted.labels.as_ref().is_some_and(Vec::is_empty) {
            return false;
        }
        let Some(expression) = event.expression else {
            return true;
        };
        if wanted
            .labels
            .as_ref()
            .is_some_and(|labels| !labels.iter().any(|label| label == expression.top))
        {
            return false;
        }
        // Compared with the rounded number, which the client sees.
        if wanted
            .min_confidence
            .is_some_and(|least| wire_decimals(expression.confidence) < least)
        {
            return false;
        }
        let Some(rate_hz) = wanted.max_rate_hz else {
            return true;
        };
        // Half a percent of tolerance for rounding, so that hops of exactly the period pass.
        let gap_nanos = 0.995e9 / rate_hz;
        let end = expression.end_ns;
        let is_early =
            |last: &MediaTime| (end.nanos_since(*last) as f64) < gap_nanos && end >= *last;
        if self.last_end.get(&expression.subject).is_some_and(is_early) {
            return false;
        }
        if self.last_end.len() > 256 {
            self.last_end
                .retain(|_, last| (end.nanos_since(*last) as f64) < gap_nanos);
        }
        self.last_end.insert(expression.subject, end);
        true
    }
}

#[cfg(test)]
mod tests;

//! Which events a subscription wants.

use std::collections::HashMap;

use super::ring::Facets;
use crate::clip::SubjectId;
use crate::event::Subscription;
use crate::time::MediaTime;

/// A subscription and what its rate limit remembers.
pub(super) struct Filter {
    pub subscription: Subscription,
    last_end: HashMap<SubjectId, MediaTime>,
}

impl Filter {
    pub fn new(subscription: Subscription) -> Self {
        Filter {
            subscription,
            last_end: HashMap::new(),
        }
    }

    pub fn passes(&mut self, facets: &Facets) -> bool {
        let wanted = &self.subscription;
        if wanted
            .events
            .as_ref()
            .is_some_and(|events| !events.contains(&facets.kind))
        {
            return false;
        }
        if let Some(subjects) = &wanted.subjects {
            // An empty list is none at all, also of the events that belong to no subject.
            let has = |subject: Option<SubjectId>| subject.is_some_and(|s| subjects.contains(&s));
            if subjects.is_empty()
                || (facets.subject.is_some() && !has(facets.subject) && !has(facets.into))
            {
                return false;
            }
        }
        if wanted.labels.as_ref().is_some_and(Vec::is_empty) {
            return false;
        }
        let Some((top, confidence, end)) = &facets.expression else {
            return true;
        };
        if wanted
            .labels
            .as_ref()
            .is_some_and(|labels| !labels.iter().any(|label| **label == **top))
        {
            return false;
        }
        if wanted
            .min_confidence
            .is_some_and(|least| *confidence < least)
        {
            return false;
        }
        if let Some(rate_hz) = wanted.max_rate_hz {
            let subject = facets.subject.expect("an expression has a subject");
            // A hop on the very grid of the rate passes: half a percent for rounding.
            let gap_nanos = 0.995e9 / rate_hz;
            if self
                .last_end
                .get(&subject)
                .is_some_and(|last| (end.nanos_since(*last) as f64) < gap_nanos && end >= last)
            {
                return false;
            }
            if self.last_end.len() > 256 {
                self.last_end
                    .retain(|_, last| (end.nanos_since(*last) as f64) < gap_nanos);
            }
            self.last_end.insert(subject, *end);
        }
        true
    }
}

//! Subscribers of the event ring, and the ring itself.

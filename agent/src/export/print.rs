//! Spans for people.

//! Where a trace comes from: the headers `traceparent` and `tracestate` of W3C Trace Context, on records and on requests.
//! What is not of their form counts as not there.

use std::time::Instant;

use axum::http::HeaderMap;
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{SpanContext, TraceContextExt};
use opentelemetry_sdk::propagation::TraceContextPropagator;

const TRACEPARENT: &str = "traceparent";

/// A record whose producer's trace is sampled, and is told what becomes of it.
#[derive(Debug, Clone)]
pub struct Followed {
    pub context: SpanContext,
    /// When it was read.
    pub read: Instant,
}

impl Followed {
    /// None: it has no traceparent, or one that is not sampled.
    pub fn from<'a>(header: impl Fn(&str) -> Option<&'a [u8]>) -> Option<Box<Followed>> {
        let text = |name: &str| std::str::from_utf8(header(name)?).ok();
        let context = context(text).filter(SpanContext::is_sampled)?;
        Some(Box::new(Followed { context, read: Instant::now() }))
    }
}

/// The trace that a request is part of.
pub fn of_request(headers: &HeaderMap) -> Option<SpanContext> {
    // Of two nobody knows which is right.
    if headers.get_all(TRACEPARENT).iter().count() != 1 {
        return None;
    }
    context(|name| headers.get(name)?.to_str().ok())
}

fn context<'a>(header: impl Fn(&str) -> Option<&'a str>) -> Option<SpanContext> {
    let traceparent = header(TRACEPARENT).filter(|text| is_of_its_form(text))?;
    let headers = Headers { traceparent, tracestate: header("tracestate") };
    let found = TraceContextPropagator::new().extract(&headers);
    let context = found.span().span_context().clone();
    context.is_valid().then_some(context)
}

/// version-trace-parent-flags in hexadecimal of lower case, each of its length; a version to come may have more after it.
/// The propagator would take a shorter one too.
fn is_of_its_form(text: &str) -> bool {
    let is_hexadecimal = |part: &str| part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let mut parts = text.split('-');
    let of_lengths = [2, 32, 16, 2]
        .into_iter()
        .all(|length| parts.next().is_some_and(|part| part.len() == length && is_hexadecimal(part)));
    of_lengths && (parts.next().is_none() || !text.starts_with("00"))
}

struct Headers<'a> {
    traceparent: &'a str,
    tracestate: Option<&'a str>,
}

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        match key {
            TRACEPARENT => Some(self.traceparent),
            _ => self.tracestate,
        }
    }

    fn keys(&self) -> Vec<&str> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const PARENT: &str = "b7ad6b7169203331";

    fn of(traceparent: &str) -> Option<SpanContext> {
        context(|name| (name == TRACEPARENT).then_some(traceparent))
    }

    #[test]
    fn a_traceparent_is_understood_and_what_is_none_is_not_there() {
        let found = of(&format!("00-{TRACE}-{PARENT}-01")).unwrap();
        assert_eq!((found.trace_id().to_string().as_str(), found.span_id().to_string().as_str()), (TRACE, PARENT));
        assert!(found.is_sampled() && found.is_remote());
        assert!(!of(&format!("00-{TRACE}-{PARENT}-00")).unwrap().is_sampled());
        assert!(of(&format!("cc-{TRACE}-{PARENT}-01-what-will-be")).unwrap().is_sampled());
        let zeros = "0".repeat(32);
        for wrong in [
            String::new(),
            "00".to_string(),
            "not of its form".to_string(),
            format!("00-{TRACE}-{PARENT}"),
            format!("00-{TRACE}-{PARENT}-01-more"),
            format!("cc-{TRACE}-{PARENT}-01.more"),
            format!("ff-{TRACE}-{PARENT}-01"),
            format!("00-{}-{PARENT}-01", TRACE.to_uppercase()),
            format!("00-{}-{PARENT}-01", &TRACE[1..]),
            format!("00-+{}-{PARENT}-01", &TRACE[1..]),
            format!("00-{TRACE}-{PARENT}-1"),
            format!("00-{zeros}-{PARENT}-01"),
            format!("00-{TRACE}-{}-01", &zeros[..16]),
        ] {
            assert_eq!(of(&wrong), None, "{wrong}");
        }
    }

    #[test]
    fn only_a_record_whose_trace_is_sampled_is_followed() {
        let record =
            |traceparent: String| Followed::from(|name| (name == TRACEPARENT).then_some(traceparent.as_bytes()));
        assert!(record(format!("00-{TRACE}-{PARENT}-01")).is_some());
        assert!(record(format!("00-{TRACE}-{PARENT}-00")).is_none());
        assert!(Followed::from(|_| Some(b"\xff".as_slice())).is_none());
        assert!(Followed::from(|_| None).is_none());
    }

    #[test]
    fn of_two_traceparents_of_a_request_neither_counts() {
        let mut headers = HeaderMap::new();
        assert_eq!(of_request(&headers), None);
        headers.append(TRACEPARENT, format!("00-{TRACE}-{PARENT}-01").parse().unwrap());
        assert!(of_request(&headers).is_some());
        headers.append(TRACEPARENT, format!("00-{TRACE}-{PARENT}-00").parse().unwrap());
        assert_eq!(of_request(&headers), None);
    }
}

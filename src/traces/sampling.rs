//! What is traced: what a sampled trace leads to, always; of the rest a share.

use opentelemetry::trace::{Link, SpanKind, TraceId};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{Sampler, SamplingResult, ShouldSample};

/// What has a parent does as that one does.
pub fn sampler(share: f64) -> Sampler {
    Sampler::ParentBased(Box::new(Roots { share: Sampler::TraceIdRatioBased(share) }))
}

/// Spans without a parent. A batch with a followed record in it is one that somebody will look at.
#[derive(Debug, Clone)]
struct Roots {
    share: Sampler,
}

impl ShouldSample for Roots {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        let sampler = match links.iter().any(|link| link.span_context.is_sampled()) {
            true => &Sampler::AlwaysOn,
            false => &self.share,
        };
        sampler.should_sample(parent, trace, name, kind, attributes, links)
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceState};
    use opentelemetry_sdk::trace::SamplingDecision;

    use super::*;

    fn is_sampled(share: f64, links: &[Link]) -> bool {
        let trace = TraceId::from(u128::MAX / 3);
        let result = sampler(share).should_sample(None, trace, "batch", &SpanKind::Consumer, &[], links);
        result.decision == SamplingDecision::RecordAndSample
    }

    #[test]
    fn a_link_to_a_sampled_trace_is_followed_whatever_the_share() {
        let link = |flags| {
            let (trace, span) = (TraceId::from(1), SpanId::from(1));
            Link::with_context(SpanContext::new(trace, span, flags, true, TraceState::default()))
        };
        assert!(is_sampled(1.0, &[]));
        assert!(!is_sampled(0.0, &[]));
        assert!(!is_sampled(0.0, &[link(TraceFlags::default())]));
        assert!(is_sampled(0.0, &[link(TraceFlags::default()), link(TraceFlags::SAMPLED)]));
    }
}

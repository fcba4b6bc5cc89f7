//! Where spans go: the URL that `traces.endpoint` is the base of, and what is wrong with it.

use axum::http::{HeaderName, HeaderValue, Uri};

use super::Traces;

/// What OTLP adds to a base.
const PATH: &str = "/v1/traces";

impl Traces {
    /// The URL that spans are posted to; none: there are to be none.
    pub fn url(&self) -> Option<String> {
        (!self.endpoint.is_empty()).then(|| format!("{}{PATH}", self.endpoint.trim_end_matches('/')))
    }

    pub(super) fn check(&self) -> Vec<String> {
        let mut errors = Vec::new();
        if !self.endpoint.is_empty()
            && let Err(wrong) = base(&self.endpoint)
        {
            errors.push(format!("traces.endpoint: {wrong}"));
        }
        if !(0.0..=1.0).contains(&self.sample) {
            errors.push(format!("traces.sample: {} is not 0 to 1", self.sample));
        }
        for (name, value) in &self.headers {
            if HeaderName::try_from(name).is_err() {
                errors.push(format!("traces.headers: {name:?} is not the name of a header"));
            } else if HeaderValue::try_from(value.reveal()).is_err() {
                errors.push(format!("traces.headers: the value of {name:?} is not one that a header can have"));
            }
        }
        errors
    }
}

/// Whether it is the base of a URL. One with a name and a password in it is not shown: the log shows endpoints.
fn base(endpoint: &str) -> Result<(), String> {
    if endpoint.contains('@') {
        return Err("has a name or a password in it; give traces.headers an authorization instead".to_string());
    }
    let such = "such as \"http://127.0.0.1:4318\"";
    let uri: Uri = endpoint.parse().map_err(|_| format!("{endpoint:?} is not a URL {such}"))?;
    let host = uri.host().unwrap_or_default();
    match uri.scheme_str() {
        Some("http" | "https") if host.is_empty() => Err(format!("{endpoint:?} names no host; {such}")),
        Some("http" | "https") if uri.query().is_some() || endpoint.contains('#') => {
            Err(format!("{endpoint:?} is more than a base, to which {PATH} is added"))
        }
        Some("http" | "https") => Ok(()),
        _ => Err(format!("{endpoint:?} does not begin with http:// or https://")),
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, Traces};

    fn traces(text: &str) -> Result<Traces, Vec<String>> {
        let parsed = Config::parse(&format!("[traces]\n{text}"), std::iter::empty());
        parsed.map(|config| config.traces).map_err(|errors| errors.0)
    }

    #[test]
    fn there_are_none_until_a_collector_is_named() {
        assert_eq!(traces("").unwrap().url(), None);
    }

    #[test]
    fn the_path_is_added_to_the_base() {
        for (endpoint, url) in [
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
            ("https://collector.example/", "https://collector.example/v1/traces"),
            ("http://[::1]:4318/behind/a/proxy", "http://[::1]:4318/behind/a/proxy/v1/traces"),
        ] {
            assert_eq!(traces(&format!("endpoint = {endpoint:?}")).unwrap().url().as_deref(), Some(url));
        }
    }

    #[test]
    fn what_is_wrong_is_told_by_its_key_and_shows_no_secret() {
        for (text, key) in [
            ("endpoint = \"127.0.0.1:4318\"", "traces.endpoint"),
            ("endpoint = \"collector\"", "traces.endpoint"),
            ("endpoint = \"grpc://collector:4317\"", "traces.endpoint"),
            ("endpoint = \"http://\"", "traces.endpoint"),
            ("endpoint = \"http://:4318\"", "traces.endpoint"),
            ("endpoint = \"http://a b\"", "traces.endpoint"),
            ("endpoint = \"http://collector:4318?key=1\"", "traces.endpoint"),
            ("endpoint = \"http://me:hunter2@collector\"", "traces.endpoint"),
            ("sample = 1.5", "traces.sample"),
            ("sample = -0.1", "traces.sample"),
            ("sample = nan", "traces.sample"),
            ("headers = { \"a b\" = \"hunter2\" }", "traces.headers"),
            ("headers = { authorization = \"hunter2\\n\" }", "traces.headers"),
            ("headers = { authorization = [\"hunter2\"] }", "traces.headers"),
            ("headers = \"authorization=hunter2\"", "traces.headers"),
        ] {
            let errors = traces(text).unwrap_err();
            assert!(matches!(&errors[..], [error] if error.starts_with(&format!("{key}: "))), "{text}: {errors:?}");
            assert!(!errors[0].contains("hunter2"), "{errors:?}");
        }
        assert!(!format!("{:?}", traces("headers = { authorization = \"hunter2\" }").unwrap()).contains("hunter2"));
    }

    #[test]
    fn headers_are_taken_from_the_environment() {
        let variable = ("FACETD_TRACES__HEADERS".to_string(), "{ authorization = \"Bearer a\" }".to_string());
        let config = Config::parse("", std::iter::once(variable)).unwrap();
        assert_eq!(config.traces.headers["authorization"].reveal(), "Bearer a");
    }
}

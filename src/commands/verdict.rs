//! What came of a check, and the detail.

#[derive(Debug)]
pub enum Verdict {
    Ok(String),
    Warn(String),
    Fail(String),
}

impl Verdict {
    pub fn of(outcome: Result<String, impl ToString>) -> Verdict {
        outcome.map_or_else(|error| Verdict::Fail(error.to_string()), Verdict::Ok)
    }

    pub fn word(&self) -> &'static str {
        match self {
            Verdict::Ok(_) => "ok",
            Verdict::Warn(_) => "WARN",
            Verdict::Fail(_) => "FAIL",
        }
    }

    pub fn detail(&self) -> &str {
        let (Verdict::Ok(detail) | Verdict::Warn(detail) | Verdict::Fail(detail)) = self;
        detail
    }
}

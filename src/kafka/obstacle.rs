//! What keeps a client of librdkafka from the brokers, in the words of the configuration.
//!
//! librdkafka tries for ever and says why only in passing. The context of each client has an [`Ear`]: it keeps what was
//! said, tells the log now and then, and lets a start give up as soon as trying again is no use.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// How long the log does not repeat the same obstacle.
const QUIET: Duration = Duration::from_secs(10);

/// Why there is no way to the brokers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind}{}; {}", bracketed(.said), .kind.way_out())]
pub struct Obstacle {
    kind: Kind,
    /// In librdkafka's words; may be empty.
    said: String,
}

fn bracketed(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!(" ({said})") }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    WrongPassword,
    NoPassword,
    Mechanism,
    Authorities,
    Untrusted,
    WantsCertificate,
    NoTls,
    Closed,
    Unreachable,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::WrongPassword => "they do not know kafka.sasl_username with this password",
            Kind::NoPassword => "they ask for a password, and kafka.sasl_password is empty",
            Kind::Mechanism => "they do not take kafka.sasl_mechanism",
            Kind::Authorities => "the authorities to trust cannot be read",
            Kind::Untrusted => "their certificate is not to be trusted",
            Kind::WantsCertificate => "they want a certificate of this client that they trust",
            Kind::NoTls => "what answers does not speak TLS",
            Kind::Closed => "they take a connection and close it, as brokers do that want TLS or SASL",
            Kind::Unreachable => "no connection",
        })
    }
}

impl Kind {
    fn way_out(self) -> &'static str {
        match self {
            Kind::WrongPassword => "correct kafka.sasl_username or kafka.sasl_password",
            Kind::NoPassword => "give it as FACETD_KAFKA__SASL_PASSWORD",
            Kind::Mechanism => {
                "correct kafka.sasl_mechanism, or kafka.security_protocol where they do not ask who somebody is"
            }
            Kind::Authorities => "correct kafka.ssl_ca, a file of certificates as PEM",
            Kind::Untrusted => {
                "give the file of its authority as kafka.ssl_ca; if that is the one, the certificate has expired or is for \
                 other host names than those in kafka.brokers"
            }
            Kind::WantsCertificate => "give ssl.certificate.location and ssl.key.location in kafka.librdkafka_options",
            Kind::NoTls => "correct kafka.security_protocol, or the port in kafka.brokers",
            Kind::Closed => "correct kafka.security_protocol, or the port in kafka.brokers",
            Kind::Unreachable => "start them, or correct kafka.brokers",
        }
    }

    /// Whether the configuration, or a certificate, has to change before anything can.
    fn stays(self) -> bool {
        self != Kind::Unreachable
    }
}

impl Obstacle {
    /// None: it is not about the way to the brokers.
    fn of(code: RDKafkaErrorCode, reason: &str) -> Option<Obstacle> {
        let is_about_the_way = matches!(
            code,
            RDKafkaErrorCode::Authentication
                | RDKafkaErrorCode::SSL
                | RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::Resolve
        );
        let says = |texts: &[&str]| texts.iter().any(|text| reason.contains(text));
        let kind = if says(&["certificate verify failed"]) {
            Kind::Untrusted
        } else if says(&["alert bad certificate", "alert certificate required", "alert unknown ca"]) {
            Kind::WantsCertificate
        } else if says(&["SSL connection closed by peer", "wrong version number"]) {
            Kind::NoTls
        } else if code == RDKafkaErrorCode::Authentication {
            match says(&["Unsupported SASL mechanism", "not valid in current SASL state"]) {
                true => Kind::Mechanism,
                false => Kind::WrongPassword,
            }
        } else {
            Kind::Unreachable
        };
        // In which state of a connection it was, and when, is nobody's concern; what to look at is said in other words.
        let said = [" (after ", ", verify that "]
            .into_iter()
            .fold(reason, |said, more| said.split(more).next().unwrap_or(said));
        is_about_the_way.then(|| Obstacle { kind, said: said.to_string() })
    }

    /// What a client could not even be made of.
    pub fn of_creation(error: &KafkaError) -> Option<Obstacle> {
        let KafkaError::ClientCreation(said) = error else { return None };
        let kind = match said {
            said if said.contains("ssl.ca.location") => Kind::Authorities,
            said if said.contains("sasl.password must be set") => Kind::NoPassword,
            _ => return None,
        };
        Some(Obstacle { kind, said: said.clone() })
    }
}

/// Whether an error is one that an [`Ear`] hears and tells.
pub fn is_about_the_way(error: &KafkaError) -> bool {
    error.rdkafka_error_code().is_some_and(|code| Obstacle::of(code, "").is_some())
}

/// Keeps what librdkafka says of the way to the brokers.
#[derive(Debug, Default)]
pub struct Ear(Mutex<Heard>);

#[derive(Debug, Default)]
struct Heard {
    last: Option<Obstacle>,
    /// No broker could be reached, once at least.
    all_down: bool,
    told: Option<(Kind, Instant)>,
}

impl Ear {
    fn heard(&self) -> MutexGuard<'_, Heard> {
        // Whole whenever it is let go.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hears an error and keeps it.
    pub fn keep(&self, error: &KafkaError, reason: &str) -> Option<Obstacle> {
        let code = error.rdkafka_error_code()?;
        let obstacle = Obstacle::of(code, reason)?;
        let mut heard = self.heard();
        // That none is left comes after the reason, and is none.
        match code {
            RDKafkaErrorCode::AllBrokersDown => heard.all_down = true,
            _ => heard.last = Some(obstacle.clone()),
        }
        Some(obstacle)
    }

    /// Hears an error, keeps it and tells the log: something else at once, the same now and then.
    pub fn hear(&self, error: &KafkaError, reason: &str) {
        let Some(obstacle) = self.keep(error, reason) else { return };
        let mut heard = self.heard();
        let is_news = heard.told.is_none_or(|(kind, at)| {
            at.elapsed() > QUIET || kind != obstacle.kind && obstacle.kind != Kind::Unreachable
        });
        if is_news {
            heard.told = Some((obstacle.kind, Instant::now()));
            tracing::warn!("no way to the brokers, trying again: {obstacle}");
        }
    }

    /// What has to be changed before any broker can be reached, as far as it is known by now.
    pub fn stays(&self) -> Option<Obstacle> {
        let heard = self.heard();
        heard.last.clone().filter(|obstacle| heard.all_down && obstacle.kind.stays())
    }

    /// What is in the way, of one who has waited long enough.
    pub fn last(&self) -> Option<Obstacle> {
        let heard = self.heard();
        let closed = || Obstacle { kind: Kind::Closed, said: String::new() };
        heard.last.clone().or_else(|| heard.all_down.then(closed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(code: RDKafkaErrorCode, reason: &str) -> String {
        Obstacle::of(code, reason).unwrap().to_string()
    }

    #[test]
    fn what_librdkafka_says_names_the_key() {
        let unknown = "sasl_ssl://k:1/bootstrap: SASL authentication error: Authentication failed during authentication due to \
                       invalid credentials with SASL mechanism SCRAM-SHA-512 (after 325ms in state AUTH_REQ)";
        let text = said(RDKafkaErrorCode::Authentication, unknown);
        assert!(text.ends_with("; correct kafka.sasl_username or kafka.sasl_password"), "{text}");
        assert!(text.contains("sasl_ssl://k:1/bootstrap") && !text.contains("325ms"), "{text}");
        let mechanism = "SASL PLAIN mechanism handshake failed: Broker: Unsupported SASL mechanism: broker's supported \
                         mechanisms: SCRAM-SHA-512";
        let text = said(RDKafkaErrorCode::Authentication, mechanism);
        assert!(text.contains("correct kafka.sasl_mechanism") && text.contains("mechanisms: SCRAM-SHA-512"), "{text}");
        let untrusted = "SSL handshake failed: error:0A000086:SSL routines::certificate verify failed: broker certificate \
                         could not be verified";
        // librdkafka says it now with one code, now with the other.
        for code in [RDKafkaErrorCode::SSL, RDKafkaErrorCode::BrokerTransportFailure] {
            let text = said(code, untrusted);
            assert!(text.contains("kafka.ssl_ca") && text.contains("expired"), "{text}");
        }
        assert_eq!(Obstacle::of(RDKafkaErrorCode::PartitionEOF, "").map(|obstacle| obstacle.to_string()), None);
    }

    #[test]
    fn what_may_pass_is_waited_for_and_what_stays_is_not() {
        let ear = Ear::default();
        let down = || drop(ear.keep(&KafkaError::Global(RDKafkaErrorCode::AllBrokersDown), "1/1 brokers are down"));
        assert_eq!(ear.last(), None);
        down();
        assert!(ear.stays().is_none() && ear.last().unwrap().to_string().contains("kafka.security_protocol"));
        ear.keep(&KafkaError::Global(RDKafkaErrorCode::BrokerTransportFailure), "Connection refused");
        assert!(ear.stays().is_none() && ear.last().unwrap().to_string().contains("kafka.brokers"));
        ear.keep(&KafkaError::Global(RDKafkaErrorCode::Authentication), "Authentication failed");
        down();
        assert!(ear.stays().unwrap().to_string().contains("kafka.sasl_password"));
    }
}

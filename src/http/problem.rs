//! What goes wrong, as every client reads it: RFC 9457, `application/problem+json`.

use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::asks::Unanswered;
use crate::engine::EngineError;
use crate::face::FaceError;
use crate::rejection::{Reason, Rejection};

const TOO_SLOW: &str = "too-slow";
const NOT_READY: &str = "not-ready";
const HALF_DONE: &str = "half-done";

/// Why a request was not answered as asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    status: StatusCode,
    kind: &'static str,
    detail: String,
}

/// What went wrong (RFC 9457).
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemBody {
    /// Stands for the kind of problem, `urn:facetd:…`; the same for all of its kind.
    r#type: String,
    title: String,
    status: u16,
    /// What was wrong here, and what to do.
    detail: String,
}

impl Problem {
    pub fn new(status: StatusCode, kind: &'static str, detail: impl Into<String>) -> Problem {
        Problem { status, kind, detail: detail.into() }
    }

    pub fn status(&self) -> StatusCode {
        self.status
    }

    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// Whether what was asked may have been done nevertheless, or still be.
    pub fn leaves_open(&self) -> bool {
        [TOO_SLOW, NOT_READY, HALF_DONE].contains(&self.kind)
    }

    pub fn bad_request(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, "bad-request", detail)
    }

    pub fn no_such_collection(name: &str) -> Problem {
        Problem::new(StatusCode::NOT_FOUND, "no-such-collection", format!("there is no collection {name}"))
    }

    pub fn no_such_page() -> Problem {
        Problem::new(StatusCode::NOT_FOUND, "no-such-page", "see /v1/openapi.json for what there is")
    }

    pub fn no_such_cluster(id: impl std::fmt::Display) -> Problem {
        let detail = format!("there is no cluster {id} in this collection, or nobody's way goes through it any more");
        Problem::new(StatusCode::NOT_FOUND, "no-such-cluster", detail)
    }

    pub fn went_into(id: impl std::fmt::Display, living: impl std::fmt::Display) -> Problem {
        let detail = format!("cluster {id} went into cluster {living}; name that one");
        Problem::new(StatusCode::NOT_FOUND, "no-such-cluster", detail)
    }

    pub fn no_such_face(id: impl std::fmt::Display) -> Problem {
        let detail = format!("there is no face {id} in this collection; a / in a face_id is written %2F");
        Problem::new(StatusCode::NOT_FOUND, "no-such-face", detail)
    }

    pub fn unprocessable(kind: &'static str, detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, kind, detail)
    }

    /// Something that ought not to happen; the log has it.
    pub fn internal() -> Problem {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "this is a bug; its place is in the log")
    }

    pub fn of_engine(error: EngineError) -> Problem {
        tracing::error!(%error, "a look at the engine failed");
        Problem::internal()
    }

    pub fn not_ready() -> Problem {
        let detail = "the state is still being loaded; /readyz tells when it is";
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, NOT_READY, detail)
    }

    /// Of a move whose first word could not be taken back.
    pub fn half_done() -> Problem {
        let detail = "the face is parted from a face it was with, but not tied to the other cluster: see its constraints, and \
                      take that back or ask again";
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, HALF_DONE, detail)
    }

    /// Of what is only done by hand once it is written down.
    pub fn not_audited() -> Problem {
        let detail = "nothing was done: the audit log, where it has to be written down first, takes nothing; its place and \
                      what is wrong are in the daemon's log";
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not-audited", detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Problem { status, kind, detail } = self;
        let title = kind.replace('-', " ");
        let body = ProblemBody { r#type: format!("urn:facetd:{kind}"), title, status: status.as_u16(), detail };
        let body = serde_json::to_string(&body).expect("plain text and a number");
        let mut response = (status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response();
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
        }
        response
    }
}

impl From<FaceError> for Problem {
    fn from(error: FaceError) -> Problem {
        Problem::bad_request(error.to_string())
    }
}

impl From<Unanswered> for Problem {
    fn from(unanswered: Unanswered) -> Problem {
        let kind = match unanswered {
            Unanswered::Busy => "busy",
            Unanswered::TooSlow => TOO_SLOW,
            Unanswered::Nobody => NOT_READY,
        };
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, kind, unanswered.to_string())
    }
}

impl From<Rejection> for Problem {
    fn from(Rejection { reason, detail }: Rejection) -> Problem {
        let (status, kind) = match reason {
            Reason::UnknownFace => (StatusCode::NOT_FOUND, "no-such-face"),
            Reason::UnknownCluster => (StatusCode::NOT_FOUND, "no-such-cluster"),
            Reason::Contradiction => (StatusCode::CONFLICT, "contradiction"),
            _ => (StatusCode::UNPROCESSABLE_ENTITY, "not-accepted"),
        };
        Problem::new(status, kind, detail)
    }
}

impl From<PathRejection> for Problem {
    fn from(rejection: PathRejection) -> Problem {
        Problem::bad_request(rejection.body_text())
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Problem {
        Problem::bad_request(rejection.body_text())
    }
}

impl From<JsonRejection> for Problem {
    fn from(rejection: JsonRejection) -> Problem {
        let kind = match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => "too-large",
            StatusCode::UNSUPPORTED_MEDIA_TYPE => "not-json",
            _ => "bad-request",
        };
        Problem::new(rejection.status(), kind, rejection.body_text())
    }
}

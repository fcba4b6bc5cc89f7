//! The daemon over HTTP: metrics, health, and what the OpenAPI document describes.
//!
//! `/healthz` answers while the process works, `/readyz` once the state is loaded and input is taken, `/metrics` for
//! Prometheus. Looking things up reads published maps and never waits for the engine ([`reading`]); what only the engine
//! knows ([`looking`]) and what changes something ([`operating`]) is asked of its thread and answered between two
//! batches.

pub mod access;
mod answers;
mod by_hand;
mod events;
mod looking;
mod operating;
mod page;
mod problem;
mod reading;
pub mod renewing;
mod requests;
mod serving;
pub mod tls;
mod under_way;

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::{IntoResponses, Modify, OpenApi, openapi};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use under_way::UnderWay;

use access::Tokens;
use problem::{Problem, ProblemBody};
use renewing::Renewing;
use serving::Bounds;

use crate::asks::Asks;
use crate::audit::Audit;
use crate::face::CollectionName;
use crate::metrics::Metrics;
use crate::seldom::Seldom;
use crate::shutdown::Shutdown;
use crate::traces::{self, Traces};
use crate::view::View;

/// The longest body taken, in bytes: an embedding of 4,096 values as JSON has room in it.
const MOST_BODY_BYTES: usize = 256 << 10;

/// Of a token, written down a minute.
const MOST_REFUSALS: usize = 10;

/// What the handlers read.
#[derive(Clone)]
pub struct Shown {
    pub metrics: Arc<Metrics>,
    pub view: Arc<View>,
    pub shutdown: Shutdown,
    /// Who may ask, as it is at any time; none: everyone.
    pub tokens: Option<watch::Receiver<Arc<Tokens>>>,
    bounds: Bounds,
    /// What tokens may not do, by their names: each line waits for the disk and stays on it.
    refusals: Arc<Seldom<String>>,
    /// What a stop has to wait for beside [`serve`].
    pub under_way: UnderWay,
    /// Where the engine is asked, once it is there.
    pub desk: Arc<OnceLock<Desk>>,
    /// None: none are made.
    pub traces: Option<Arc<Traces>>,
}

/// How the engine is asked.
pub struct Desk {
    pub asks: Asks,
    /// Width of the model's embeddings.
    pub dimension: usize,
    pub default_collection: CollectionName,
    /// Where what is done by hand is written down.
    pub audit: Audit,
}

impl Shown {
    /// With `connections` at most, to callers that `tokens` has.
    pub fn new(
        metrics: Arc<Metrics>,
        view: Arc<View>,
        shutdown: Shutdown,
        tokens: Option<watch::Receiver<Arc<Tokens>>>,
        connections: usize,
    ) -> Shown {
        let bounds = Bounds::new(connections);
        Shown {
            metrics,
            view,
            shutdown,
            tokens,
            bounds,
            refusals: Arc::new(Seldom::new(MOST_REFUSALS)),
            under_way: UnderWay::default(),
            desk: Arc::default(),
            traces: None,
        }
    }

    fn desk(&self) -> Result<&Desk, Problem> {
        self.desk.get().ok_or_else(Problem::not_ready)
    }
}

/// Why there is no listener.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error("cannot listen on {address}: {source}; stop what holds it, or change http.listen")]
    Bind { address: SocketAddr, source: std::io::Error },
    #[error(
        "http.listen is {0}, where others reach it, and http.tokens names no file: whoever came could erase everything; \
             make a token with facetd token, or listen on 127.0.0.1"
    )]
    Open(SocketAddr),
}

/// Without tokens only this machine may ask.
pub fn may_listen(address: SocketAddr, tokens: bool) -> Result<(), ListenError> {
    match address.ip().is_loopback() || tokens {
        true => Ok(()),
        false => Err(ListenError::Open(address)),
    }
}

pub async fn listen(address: SocketAddr, tokens: bool) -> Result<TcpListener, ListenError> {
    may_listen(address, tokens)?;
    TcpListener::bind(address).await.map_err(|source| ListenError::Bind { address, source })
}

/// Answers until the daemon stops, and then until all that was asked is answered. Dropped before, it answers no more.
pub async fn serve(listener: TcpListener, shown: Shown, renewing: Arc<Renewing>) {
    let Shown { metrics, shutdown, bounds, .. } = shown.clone();
    let tls = renewing.acceptor();
    tokio::join!(
        serving::serve(listener, router(shown), tls, bounds, metrics, shutdown.clone()),
        renewing.watch(shutdown),
    );
}

fn router(shown: Shown) -> Router {
    let (api, document) = OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(reading::collections))
        .routes(routes!(reading::collection, operating::erase_collection))
        .routes(routes!(reading::face, operating::erase_face))
        .routes(routes!(reading::clusters))
        .routes(routes!(reading::cluster, operating::describe_cluster, operating::erase_cluster))
        .routes(routes!(reading::members))
        .routes(routes!(reading::constraints, operating::constrain, operating::release))
        .routes(routes!(operating::move_face))
        .routes(routes!(looking::search))
        .routes(routes!(looking::why))
        .routes(routes!(looking::picture))
        .routes(routes!(events::events))
        .split_for_parts();
    let document: Arc<str> = document.to_json().expect("the document is plain data").into();
    let served = move || async move { ([(header::CONTENT_TYPE, "application/json")], document.to_string()) };
    api.route("/v1/openapi.json", get(served))
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/", get(page::index))
        .route("/assets/{name}", get(page::asset))
        .route("/favicon.svg", get(page::icon))
        .fallback(|| async { Problem::no_such_page() })
        .method_not_allowed_fallback(|| async {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "no-such-method", "see /v1/openapi.json for what there is")
        })
        .layer(DefaultBodyLimit::max(MOST_BODY_BYTES))
        .layer(from_fn_with_state(shown.clone(), observe))
        .with_state(shown)
}

/// The API.
#[derive(OpenApi)]
#[openapi(components(schemas(ProblemBody)), info(title = "facetd", description = "Faces clustered by identity while they arrive."), modifiers(&WithToken))]
struct Document;

/// Where tokens are configured, they are sent as RFC 6750 says.
struct WithToken;

impl Modify for WithToken {
    fn modify(&self, document: &mut openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
        document.security = Some(vec![openapi::SecurityRequirement::new("token", [] as [&str; 0])]);
    }
}

/// What may go wrong with any request.
struct Problems;

impl IntoResponses for Problems {
    fn responses() -> std::collections::BTreeMap<String, openapi::RefOr<openapi::Response>> {
        let known = [
            (400, "something asked is not of its form"),
            (401, "a token is wanted, or another"),
            (403, "the token is not for this"),
            (404, "it is not there"),
            (408, "the body came too slowly"),
            (409, "it contradicts what was said before"),
            (410, "it is not held any more"),
            (413, "the body is too long"),
            (415, "the body is not JSON by its content type"),
            (422, "it cannot be done"),
            (503, "the daemon is loading, stopping or busy, or cannot write down what is done by hand"),
        ];
        let response = |description: &str| {
            let body = openapi::Ref::from_schema_name("Problem");
            let content = openapi::ContentBuilder::new().schema(Some(body)).build();
            openapi::ResponseBuilder::new()
                .description(description)
                .content("application/problem+json", content)
                .build()
        };
        known.into_iter().map(|(status, what)| (status.to_string(), response(what).into())).collect()
    }
}

/// Times, counts and traces every request.
async fn observe(State(shown): State<Shown>, route: Option<MatchedPath>, request: Request, next: Next) -> Response {
    let route = route.as_ref().map_or("none", MatchedPath::as_str);
    let timer = shown.metrics.http_seconds.with_label_values(&[route]).start_timer();
    // The others are asked by machines, again and again.
    let traces = shown.traces.filter(|_| route.starts_with("/v1/"));
    let traced =
        traces.map(|traces| (traces, traces::context::of_request(request.headers()), request.method().clone()));
    let response = next.run(request).await;
    let took = Duration::from_secs_f64(timer.stop_and_record());
    let status = response.status();
    shown.metrics.http_responses.with_label_values(&[status.as_str()]).inc();
    // Who may not ask may not have it traced either.
    if let Some((traces, parent, method)) = traced.filter(|_| status != StatusCode::UNAUTHORIZED) {
        traces.request(parent, method.as_str(), route, status.as_u16(), took);
    }
    response
}

async fn metrics(State(shown): State<Shown>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], shown.metrics.text()).into_response()
}

async fn ready(State(shown): State<Shown>) -> Response {
    match shown.metrics.ready.get() {
        1 => "ready\n".into_response(),
        _ => (StatusCode::SERVICE_UNAVAILABLE, "loading the state\n").into_response(),
    }
}

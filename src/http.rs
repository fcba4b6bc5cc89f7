//! Metrics, health and look-ups on one listener.
//!
//! `/healthz` answers while the process works, `/readyz` once the state is loaded and input is
//! taken, `/metrics` for Prometheus, `/v1/collections/{collection}/faces/{face_id}` for a face's cluster.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::json;
use tokio::net::TcpListener;

use crate::face::{CollectionName, FaceId};
use crate::metrics::Metrics;
use crate::shutdown::Shutdown;
use crate::view::View;

/// What the handlers read.
#[derive(Clone)]
pub struct Shown {
    pub metrics: Arc<Metrics>,
    pub view: Arc<View>,
}

/// Why there is no listener.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}; stop what holds it, or change http.listen")]
pub struct ListenError {
    address: SocketAddr,
    source: std::io::Error,
}

pub async fn listen(address: SocketAddr) -> Result<TcpListener, ListenError> {
    TcpListener::bind(address).await.map_err(|source| ListenError { address, source })
}

/// Answers until `shutdown`.
pub async fn serve(listener: TcpListener, shown: Shown, shutdown: Shutdown) -> std::io::Result<()> {
    let routes = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/v1/collections/{collection}/faces/{*face_id}", get(face))
        .with_state(shown);
    axum::serve(listener, routes).with_graceful_shutdown(async move { shutdown.requested().await }).await
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

/// What a look-up of a face is asked with.
#[derive(serde::Deserialize)]
struct FacePath {
    collection: String,
    face_id: String,
}

async fn face(State(shown): State<Shown>, Path(path): Path<FacePath>) -> Response {
    let cluster = CollectionName::new(&path.collection)
        .and_then(|collection| Ok((collection, FaceId::new(&path.face_id)?)))
        .map(|(collection, face)| shown.view.cluster_of(&collection, &face));
    let (status, body) = match cluster {
        Ok(Some(cluster)) => {
            let body = json!({ "cluster_id": cluster.id, "size": cluster.size, "version": cluster.version });
            return (StatusCode::OK, json_body(body)).into_response();
        }
        Ok(None) => (StatusCode::NOT_FOUND, "no such face in this collection".to_string()),
        Err(error) => (StatusCode::BAD_REQUEST, error.to_string()),
    };
    (status, json_body(json!({ "error": body }))).into_response()
}

fn json_body(value: serde_json::Value) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], format!("{value}\n"))
}

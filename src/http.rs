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
use crate::publish::cloudevents::describe;
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
        .map(|(collection, face)| Some(shown.view.collection(&collection)?.cluster_of(&face)?.cluster.clone()));
    let (status, body) = match cluster {
        Ok(Some(cluster)) => {
            let mut body = json!({ "cluster_id": cluster.id, "size": cluster.size, "version": cluster.version });
            describe(&mut body, &cluster);
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

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;
    use crate::histories::{History, Step, face_ids};

    /// Status line and body of a GET.
    fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        format!("{} {}", head.lines().next().unwrap().strip_prefix("HTTP/1.1 ").unwrap(), body.trim())
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_face_is_found_until_it_is_erased() {
        let shown = Shown { metrics: Arc::default(), view: Arc::default() };
        let (view, shutdown) = (shown.view.clone(), Shutdown::default());
        let listener = listen(([127, 0, 0, 1], 0).into()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(serve(listener, shown, shutdown.clone()));

        let (mut history, lobby) = (History::default(), CollectionName::new("lobby").unwrap());
        let path = format!("/v1/collections/lobby/faces/{}", face_ids().next().unwrap());
        for (steps, expected) in [
            (&[][..], r#"404 Not Found {"error":"no such face in this collection"}"#),
            (
                &[Step::Create { face: 0 }, Step::Create { face: 1 }, Step::Merge { a: 0, b: 1 }],
                r#"200 OK {"cluster_id":"1","size":2,"version":2}"#,
            ),
            (
                &[Step::Describe { cluster: 0, pinned: true }],
                r#"200 OK {"cluster_id":"1","name":"person 1","pinned":true,"size":2,"version":3}"#,
            ),
            (&[Step::Split { face: 0 }], r#"200 OK {"cluster_id":"3","size":1,"version":1}"#),
            (&[Step::Erase { face: 0 }], r#"404 Not Found {"error":"no such face in this collection"}"#),
        ] {
            for &step in steps {
                view.update(&lobby, &history.take(step));
            }
            assert_eq!(get(address, &path), expected, "after {steps:?}");
        }
        assert!(get(address, "/v1/collections/no%20such/faces/a").starts_with("400 Bad Request"));
        shutdown.request();
        server.await.unwrap().unwrap();
    }
}

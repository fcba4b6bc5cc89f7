//! The live page at `/`: the files of page/dist, embedded at compile time, so that the binary is all there is to it.
//!
//! It loads nothing from elsewhere, and its browser is told to let it load nothing: what an embedding's face_id or a
//! cluster's name holds can then do no harm either.

use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use rust_embed::Embed;

use super::problem::Problem;

#[derive(Embed)]
#[folder = "page/dist"]
#[allow_missing = true]
struct Files;

const POLICY: &str =
    "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'";
/// Of files whose name changes with what is in them.
const FOR_EVER: &str = "public, max-age=31536000, immutable";

pub async fn index() -> Response {
    file("index.html").unwrap_or_else(|| {
        let detail = "this facetd was built without its page; make build builds it with it";
        Problem::new(StatusCode::NOT_FOUND, "no-such-page", detail).into_response()
    })
}

pub async fn asset(Path(name): Path<String>) -> Response {
    file(&format!("assets/{name}")).unwrap_or_else(|| Problem::no_such_page().into_response())
}

pub async fn icon() -> Response {
    file("favicon.svg").unwrap_or_else(|| Problem::no_such_page().into_response())
}

fn file(name: &str) -> Option<Response> {
    let found = Files::get(name)?;
    let kind = match name.rsplit_once('.')?.1 {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        _ => "application/octet-stream",
    };
    let kept = if name.starts_with("assets/") { FOR_EVER } else { "no-cache" };
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, kept),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    Some((headers, found.data).into_response())
}

//! What is asked, checked: parts of paths, queries and bodies, and cursors. Whatever is wrong with them is a
//! [`Problem`].

use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_PAD_INDIFFERENT, URL_SAFE_NO_PAD};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::Shown;
use super::problem::Problem;
use crate::face::ClusterId;
use crate::metrics::CutOff;
use crate::view::ClusterOrder;

/// Items of a page where nothing is said, and at most.
const USUAL: usize = 50;
const MOST: usize = 1000;

#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Path), rejection(Problem))]
pub struct Path<T>(pub T);

#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Query), rejection(Problem))]
pub struct Query<T>(pub T);

/// A body, which has to be there within a time.
pub struct Json<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Shown> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, shown: &Shown) -> Result<Json<T>, Problem> {
        let within = shown.bounds.body;
        // By way of an object: a list of a struct's values would be taken for the struct too.
        let read = axum::Json::<serde_json::Map<String, Value>>::from_request(request, shown);
        let Ok(read) = tokio::time::timeout(within, read).await else {
            shown.metrics.cut_off(CutOff::Body);
            let detail = format!("the body was not there within {} seconds", within.as_secs_f32());
            return Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "too-slow-a-body", detail));
        };
        let asked = serde_path_to_error::deserialize(Value::Object(read?.0));
        asked.map(Json).map_err(|error| Problem::unprocessable("bad-request", error.to_string()))
    }
}

/// A page of a list.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct PageAsked {
    /// Items at most.
    #[param(minimum = 1, maximum = 1000, default = 50)]
    limit: Option<usize>,
    /// `next` of the page before.
    after: Option<String>,
}

impl PageAsked {
    pub fn limit(&self) -> Result<usize, Problem> {
        limit(self.limit)
    }

    pub fn after<T: DeserializeOwned>(&self) -> Result<Option<T>, Problem> {
        self.after.as_deref().map(read_cursor).transpose()
    }
}

/// What clusters are listed by.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Large ones first.
    Size,
    /// Those that changed last first.
    Recent,
}

/// A page of clusters.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct ClustersAsked {
    /// size where nothing is said; with `after`, the one it came with.
    #[param(inline)]
    order: Option<Order>,
    #[param(minimum = 1, maximum = 1000, default = 50)]
    limit: Option<usize>,
    /// `next` of the page before.
    after: Option<String>,
}

impl ClustersAsked {
    pub fn order(&self) -> ClusterOrder {
        match self.order {
            None | Some(Order::Size) => ClusterOrder::Size,
            Some(Order::Recent) => ClusterOrder::Recent,
        }
    }

    pub fn page(self) -> PageAsked {
        PageAsked { limit: self.limit, after: self.after }
    }
}

pub fn limit(asked: Option<usize>) -> Result<usize, Problem> {
    match asked {
        None => Ok(USUAL),
        Some(limit @ 1..=MOST) => Ok(limit),
        Some(limit) => Err(Problem::bad_request(format!("limit is {limit}, and has to be 1 to {MOST}"))),
    }
}

/// A place in a list, to go on from: opaque to whoever is given it.
pub fn cursor(place: &impl Serialize) -> String {
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(place).expect("places are plain data"))
}

fn read_cursor<T: DeserializeOwned>(cursor: &str) -> Result<T, Problem> {
    let place = URL_SAFE_NO_PAD.decode(cursor).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    place.ok_or_else(|| Problem::bad_request("after is no cursor of this list: give the `next` of a page as it is"))
}

/// A cluster's id out of a path.
pub fn cluster_id(text: &str) -> Result<ClusterId, Problem> {
    let id = text.parse().map(ClusterId);
    id.map_err(|_| Problem::bad_request(format!("cluster_id {text:?} is not a whole number")))
}

/// An embedding, as numbers or as base64 of little-endian f32.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
pub enum EmbeddingAsked {
    Values(Vec<f32>),
    Base64(String),
}

impl EmbeddingAsked {
    pub fn values(self) -> Result<Vec<f32>, Problem> {
        let text = match self {
            EmbeddingAsked::Values(values) => return Ok(values),
            EmbeddingAsked::Base64(text) => text,
        };
        let bytes = STANDARD.decode(&text).or_else(|_| STANDARD_PAD_INDIFFERENT.decode(&text));
        let bytes = bytes.map_err(|_| Problem::bad_request("embedding is a text, but not base64"))?;
        match bytes.as_chunks::<4>() {
            (chunks, []) => Ok(chunks.iter().map(|&chunk| f32::from_le_bytes(chunk)).collect()),
            (_, rest) => {
                let detail = format!("embedding is {} bytes too long to be whole f32 values", rest.len());
                Err(Problem::bad_request(detail))
            }
        }
    }
}

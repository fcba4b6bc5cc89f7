//! Changes as they are committed, as server-sent events (WHATWG HTML, section 9.2).
//!
//! A reader goes on from a sequence, as far back as events are held; then it is told to begin anew. Whoever reads
//! slowly holds up nobody: each reader takes what it has not sent yet out of the published maps, and one that falls
//! behind what is held is told so and let go of. An event is written once, however many follow: to send it to one more
//! is to copy it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use utoipa::{IntoParams, ToSchema};

use super::access::{Caller, Tokens};
use super::problem::Problem;
use super::reading::{Looked, OfCollection};
use super::requests::{Path, Query};
use super::{Problems, Shown};
use crate::engine::event::Event;
use crate::face::CollectionName;
use crate::publish::cloudevents::data_of_event;
use crate::shutdown::Shutdown;
use crate::view::{Held, Since, View};

/// Events taken at once.
const AT_ONCE: usize = 256;
/// How often a word is sent where there is nothing to tell, so that a dead connection is found out.
const STILL_HERE: Duration = Duration::from_secs(15);
const LAST_READ: &str = "Last-Event-ID";

/// Where to begin.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct Beginning {
    /// The first sequence wanted; left out: what happens from now on. A header Last-Event-ID comes first.
    #[param(minimum = 1)]
    from: Option<u64>,
    /// Events at most, after which the answer ends; left out: it goes on.
    #[param(minimum = 1)]
    limit: Option<usize>,
}

/// The last sequence that was read, which a browser says when it connects anew.
fn last_read(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(given) = headers.get(LAST_READ) else { return Ok(None) };
    let sequence = given.to_str().ok().and_then(|text| text.parse().ok());
    sequence.map(Some).ok_or_else(|| Problem::bad_request(format!("{LAST_READ} is no sequence: {given:?}")))
}

/// One change, in the parts that the event stream format gives it.
#[derive(ToSchema)]
#[allow(dead_code, reason = "describes what Reader::written writes")]
struct ServerSentEvent {
    /// The sequence.
    #[schema(pattern = "^[0-9]+$")]
    id: String,
    /// The type.
    #[schema(example = "created")]
    event: String,
    /// JSON, as schemas/cluster-event.schema.json describes it.
    #[schema(content_media_type = "application/json")]
    data: String,
}

/// Every change of a collection from a sequence on, as server-sent events
#[utoipa::path(
    get, path = "/v1/collections/{collection}/events", tag = "collections",
    params(OfCollection, Beginning, ("Last-Event-ID" = Option<u64>, Header, description = "The last sequence that was read")),
    responses((status = 200, content_type = "text/event-stream", body = ServerSentEvent), Problems)
)]
pub async fn events(
    State(api): State<Shown>,
    caller: Caller,
    Path(path): Path<OfCollection>,
    Query(asked): Query<Beginning>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Looked { name, shown } = path.look(&api, &caller)?;
    let limit = match asked.limit {
        Some(0) => return Err(Problem::bad_request("limit is 0, and has to be at least 1")),
        limit => limit.unwrap_or(usize::MAX),
    };
    let after = last_read(&headers)?.or(asked.from.map(|from| from.saturating_sub(1))).unwrap_or(shown.sequence());
    if let Since::Gone { first } = shown.events_after(after, 0) {
        return Err(gone(first));
    }
    let commits = shown.commits();
    let Shown { view, shutdown, mut tokens, .. } = api;
    if let Some(tokens) = &mut tokens {
        // Also where they were read again since the caller was let in.
        tokens.mark_changed();
    }
    let next_word = Instant::now() + STILL_HERE;
    let reader = Reader { view, shutdown, caller, tokens, collection: name, after, left: limit, commits, next_word };
    let told = stream::unfold(reader, |mut reader| async move {
        let told = reader.next().await?;
        reader.next_word = Instant::now() + STILL_HERE;
        Some((Ok::<_, Infallible>(told), reader))
    });
    let how = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-cache")];
    Ok((how, Body::from_stream(told)).into_response())
}

fn gone(first: Option<u64>) -> Problem {
    let held = match first {
        Some(first) => format!("the first held is {first}"),
        None => "none is held".to_string(),
    };
    let detail =
        format!("events of that sequence are not held here, {held}: read them from the topic, or leave `from` out");
    Problem::new(StatusCode::GONE, "gone", detail)
}

struct Reader {
    view: Arc<View>,
    shutdown: Shutdown,
    caller: Caller,
    tokens: Option<watch::Receiver<Arc<Tokens>>>,
    collection: CollectionName,
    /// The last sequence taken.
    after: u64,
    /// Events that are wanted still.
    left: usize,
    commits: watch::Receiver<u64>,
    /// When something is sent, whether or not there is anything to tell.
    next_word: Instant,
}

impl Reader {
    /// Nothing more once events are gone that were not read, the token was taken back, or the daemon stops.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if self.left == 0 || !self.may_go_on() {
                return None;
            }
            self.commits.mark_unchanged();
            let shown = self.view.collection(&self.collection)?;
            let Since::Events(events) = shown.events_after(self.after, self.left.min(AT_ONCE)) else { return None };
            if let Some(last) = events.last() {
                self.after = last.event.sequence;
                self.left -= events.len();
                return Some(self.written(&events));
            }
            tokio::select! {
                changed = self.commits.changed() => changed.ok()?,
                () = read_again(&mut self.tokens) => {}
                () = self.shutdown.requested() => return None,
                () = sleep_until(self.next_word) => return Some(Bytes::from_static(b": still here\n\n")),
            }
        }
    }

    /// In the event stream format: neither a type nor JSON has a line's end in it.
    fn written(&self, events: &[Arc<Held>]) -> Bytes {
        let write = |event: &Event| {
            let (name, data) = (event.change.event_type().name(), data_of_event(&self.collection, event));
            format!("id: {}\nevent: {name}\ndata: {data}\n\n", event.sequence)
        };
        events.iter().map(|held| held.written(write)).collect::<String>().into()
    }

    /// Whether the caller may read it by the tokens there are now.
    fn may_go_on(&mut self) -> bool {
        let Some(tokens) = self.tokens.as_mut().filter(|tokens| tokens.has_changed().unwrap_or(false)) else {
            return true;
        };
        let caller = tokens.borrow_and_update().again(&self.caller);
        caller.is_some_and(|caller| {
            self.caller = caller;
            self.caller.may_read(&self.collection).is_ok()
        })
    }
}

/// Waits until tokens were read again; for ever where there are none, or nobody reads them any more.
async fn read_again(tokens: &mut Option<watch::Receiver<Arc<Tokens>>>) {
    let changed = match tokens {
        Some(tokens) => tokens.changed().await.is_ok(),
        None => false,
    };
    match changed {
        // It is looked at where the next event is taken.
        true => tokens.iter_mut().for_each(watch::Receiver::mark_changed),
        false => std::future::pending().await,
    }
}

//! What an operator changes: erasing, pinning and naming, and words on two faces. Each is one commit of the engine's
//! thread, answered once it is on disk and shown, and stands in the audit log ([`super::by_hand`]).

use axum::Json as Answer;
use axum::extract::State;
use serde::{Deserialize, Deserializer};
use utoipa::ToSchema;

use super::access::Caller;
use super::answers::{self, Cluster, ConstraintKind, Erased, Face, Released};
use super::looking::TwoFaces;
use super::problem::Problem;
use super::reading::{Looked, OfCluster, OfCollection, OfFace};
use super::requests::{Json, Path, Query, cluster_id};
use super::{Problems, Shown};
use crate::audit::Deed;
use crate::clock;
use crate::engine::changes::{Constraint, Outcome, PairOfFaces, Request};
use crate::engine::event::Cause;
use crate::face::{CollectionName, FaceId};

impl Shown {
    /// One request of an operator: done, or why not.
    pub async fn operate(&self, collection: &CollectionName, request: Request) -> Result<Outcome, Problem> {
        let outcomes = self.desk()?.asks.operate(collection.clone(), vec![request]).await?;
        match outcomes.into_iter().next() {
            Some(Outcome::Rejected(rejection)) => Err(rejection.into()),
            Some(outcome) => Ok(outcome),
            None => Err(Problem::internal()),
        }
    }

    /// Both words, or neither. What was said before by somebody stays, whatever becomes of the second word.
    async fn tie(
        &self,
        collection: &CollectionName,
        apart: Option<Constraint>,
        together: Option<Constraint>,
    ) -> Result<Outcome, Problem> {
        let mut said_now = None;
        if let Some(apart) = apart
            && self.operate(collection, Request::Constrain(apart.clone())).await? == Outcome::Done
        {
            said_now = Some(apart);
        }
        if let Some(together) = together
            && let Err(problem) = self.operate(collection, Request::Constrain(together)).await
        {
            if let Some(Constraint { a, b, .. }) = said_now {
                let taken_back = self.operate(collection, Request::Release { a, b }).await;
                taken_back.map_err(|_| Problem::half_done())?;
            }
            return Err(problem);
        }
        Ok(Outcome::Done)
    }

    async fn erase(
        &self,
        collection: &CollectionName,
        request: Request,
        by: &Caller,
    ) -> Result<Answer<Erased>, Problem> {
        match self.request_by_hand(by, collection, request).await? {
            Outcome::Erased(erased) => Ok(Answer(Erased { erased })),
            _ => Ok(Answer(Erased { erased: 0 })),
        }
    }
}

/// Erases a face; its id may not come back until `facetd allow` names it
#[utoipa::path(
    delete, path = "/v1/collections/{collection}/faces/{face_id}", tag = "faces", params(OfFace),
    responses((status = 200, body = Erased), Problems)
)]
pub async fn erase_face(
    State(shown): State<Shown>,
    caller: Caller,
    Path(path): Path<OfFace>,
) -> Result<Answer<Erased>, Problem> {
    let (name, face) = path.names()?;
    shown.erase(&name, Request::Erase { face, cause: Cause::Api }, &caller).await
}

/// Erases every face of a cluster: a person
#[utoipa::path(
    delete, path = "/v1/collections/{collection}/clusters/{cluster_id}", tag = "clusters", params(OfCluster),
    responses((status = 200, body = Erased), Problems)
)]
pub async fn erase_cluster(
    State(shown): State<Shown>,
    caller: Caller,
    Path(path): Path<OfCluster>,
) -> Result<Answer<Erased>, Problem> {
    let (name, cluster) = path.names()?;
    shown.erase(&name, Request::EraseCluster { cluster }, &caller).await
}

/// Erases every face of a collection
#[utoipa::path(
    delete, path = "/v1/collections/{collection}", tag = "collections", params(OfCollection),
    responses((status = 200, body = Erased), Problems)
)]
pub async fn erase_collection(
    State(shown): State<Shown>,
    caller: Caller,
    Path(path): Path<OfCollection>,
) -> Result<Answer<Erased>, Problem> {
    let name = path.name()?;
    shown.erase(&name, Request::EraseCollection, &caller).await
}

/// What is said of a cluster. What is left out stays as it is.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// Its name, at most 256 bytes; null or an empty one takes it away.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    name: Option<Option<String>>,
    /// Whether its id is to outlive those of others.
    pinned: Option<bool>,
}

/// Null is something else than nothing.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// Pins and names a cluster
#[utoipa::path(
    patch, path = "/v1/collections/{collection}/clusters/{cluster_id}", tag = "clusters", params(OfCluster),
    request_body = Description, responses((status = 200, body = Cluster), Problems)
)]
pub async fn describe_cluster(
    State(api): State<Shown>,
    caller: Caller,
    Path(path): Path<OfCluster>,
    Json(description): Json<Description>,
) -> Result<Answer<Cluster>, Problem> {
    let (name, cluster) = path.names()?;
    let Description { name: given, pinned } = description;
    let given = given.map(|name| name.filter(|name| !name.is_empty()));
    let deed = Deed::describe(&name, cluster, pinned, given.as_ref().map(Option::is_some));
    let Looked { shown, .. } = api.look_to_change(&caller, &name, &deed).await?;
    let listed = shown.cluster(cluster).ok_or_else(|| Problem::no_such_cluster(cluster))?;
    let before = &listed.cluster;
    if given.is_none() && pinned.is_none() {
        // Nothing is said of it.
        return Ok(Answer(Cluster::of(listed)));
    }
    let request = Request::Describe {
        cluster,
        pinned: pinned.unwrap_or(before.pinned),
        name: given.unwrap_or_else(|| before.name.clone()),
    };
    let (this, collection) = (api.clone(), name.clone());
    api.by_hand(&caller, deed, async move { this.operate(&collection, request).await }).await?;
    let now = api.view.collection(&name);
    let listed =
        now.as_ref().and_then(|shown| shown.cluster(cluster)).ok_or_else(|| Problem::no_such_cluster(cluster))?;
    Ok(Answer(Cluster::of(listed)))
}

/// A word on two faces.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Word {
    #[schema(inline)]
    kind: ConstraintKind,
    #[schema(min_length = 1, max_length = 512)]
    a: String,
    #[schema(min_length = 1, max_length = 512)]
    b: String,
}

/// Has two faces be one person, or never be
#[utoipa::path(
    post, path = "/v1/collections/{collection}/constraints", tag = "constraints", params(OfCollection),
    request_body = Word, responses((status = 200, body = answers::Constraint), Problems)
)]
pub async fn constrain(
    State(api): State<Shown>,
    caller: Caller,
    Path(path): Path<OfCollection>,
    Json(word): Json<Word>,
) -> Result<Answer<answers::Constraint>, Problem> {
    let name = path.name()?;
    let constraint = word_of(word.kind, &FaceId::new(&word.a)?, &FaceId::new(&word.b)?, &caller);
    let outcome = api.request_by_hand(&caller, &name, Request::Constrain(constraint.clone())).await?;
    if outcome == Outcome::Duplicate {
        // It stands already, maybe by somebody else's word.
        let pair = PairOfFaces::new(&constraint.a, &constraint.b);
        let standing = api.view.collection(&name).and_then(|shown| shown.constraint(&pair).cloned());
        return Ok(Answer(answers::Constraint::of(&standing.unwrap_or(constraint))));
    }
    Ok(Answer(answers::Constraint::of(&constraint)))
}

fn word_of(kind: ConstraintKind, a: &FaceId, b: &FaceId, caller: &Caller) -> Constraint {
    let at = clock::now();
    Constraint { kind: kind.into(), a: a.clone(), b: b.clone(), by: caller.name().to_string(), at }
}

/// Takes a word on two faces back
#[utoipa::path(
    delete, path = "/v1/collections/{collection}/constraints", tag = "constraints", params(OfCollection, TwoFaces),
    responses((status = 200, body = Released), Problems)
)]
pub async fn release(
    State(api): State<Shown>,
    caller: Caller,
    Path(path): Path<OfCollection>,
    Query(asked): Query<TwoFaces>,
) -> Result<Answer<Released>, Problem> {
    let name = path.name()?;
    let (a, b) = asked.ids()?;
    let outcome = api.request_by_hand(&caller, &name, Request::Release { a, b }).await?;
    Ok(Answer(Released { released: usize::from(outcome == Outcome::Done) }))
}

/// Where a face is to be.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Move {
    #[schema(min_length = 1, max_length = 512)]
    face_id: String,
    #[schema(example = "12", pattern = "^[0-9]{1,19}$")]
    cluster_id: String,
}

/// Moves a face into another cluster, for good: a cannot-link with a face it was with, and a must-link with one it is
/// to be with. Whoever is tied to it more than to the others comes along.
#[utoipa::path(
    post, path = "/v1/collections/{collection}/moves", tag = "constraints", params(OfCollection), request_body = Move,
    responses((status = 200, body = Face), Problems)
)]
pub async fn move_face(
    State(api): State<Shown>,
    caller: Caller,
    Path(path): Path<OfCollection>,
    Json(asked): Json<Move>,
) -> Result<Answer<Face>, Problem> {
    let name = path.name()?;
    let (face, to) = (FaceId::new(&asked.face_id)?, cluster_id(&asked.cluster_id)?);
    let deed = Deed::move_face(&name, face.clone(), to);
    let looked = api.look_to_change(&caller, &name, &deed).await?;
    let shown = &looked.shown;
    let from = shown.cluster_of(&face).ok_or_else(|| Problem::no_such_face(&face))?.cluster.id;
    looked.check_living(to)?;
    if from != to {
        // The first that is not the face itself.
        let other = |cluster| shown.members(cluster, None, 2).items.into_iter().find(|other| *other != face);
        let apart = other(from).map(|other| word_of(ConstraintKind::CannotLink, &face, &other, &caller));
        let together = other(to).map(|other| word_of(ConstraintKind::MustLink, &face, &other, &caller));
        let (this, collection) = (api.clone(), name.clone());
        api.by_hand(&caller, deed, async move { this.tie(&collection, apart, together).await }).await?;
    }
    let now = api.view.collection(&name);
    let listed = now.as_ref().and_then(|shown| shown.cluster_of(&face)).ok_or_else(|| Problem::no_such_face(&face))?;
    Ok(Answer(Face::of(&face, listed)))
}

//! What is answered out of the published maps: collections, faces, clusters, constraints. None of it reaches the engine.

use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;

use super::access::Caller;
use super::answers::{Cluster, Clusters, Collection, Collections, Constraint, Constraints, Face, Member, Members};
use super::problem::Problem;
use super::requests::{ClustersAsked, PageAsked, Path, Query, cluster_id, cursor};
use super::{Problems, Shown};
use crate::engine::changes::PairOfFaces;
use crate::face::{ClusterId, CollectionName, FaceId};
use crate::view::{AfterCluster, AfterFace, CollectionView, Page};

/// One of the collections.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub struct OfCollection {
    #[param(pattern = "^[A-Za-z0-9._-]{1,64}$")]
    collection: String,
}

/// One of a collection's faces.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub struct OfFace {
    #[param(pattern = "^[A-Za-z0-9._-]{1,64}$")]
    collection: String,
    /// Percent-encoded: a slash in it is %2F.
    #[param(min_length = 1, max_length = 512)]
    face_id: String,
}

/// One of a collection's clusters.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub struct OfCluster {
    #[param(pattern = "^[A-Za-z0-9._-]{1,64}$")]
    collection: String,
    #[param(example = "12", pattern = "^[0-9]{1,19}$")]
    cluster_id: String,
}

/// A collection that is there and may be looked at.
pub struct Looked {
    pub name: CollectionName,
    pub shown: Arc<CollectionView>,
}

impl Looked {
    /// A problem unless the cluster lives; it says where the cluster went.
    pub fn check_living(&self, id: ClusterId) -> Result<(), Problem> {
        match self.shown.living_of(id).map(|listed| listed.cluster.id) {
            Some(living) if living == id => Ok(()),
            Some(living) => Err(Problem::went_into(id, living)),
            None => Err(Problem::no_such_cluster(id)),
        }
    }
}

impl Shown {
    pub fn look(&self, caller: &Caller, collection: &str) -> Result<Looked, Problem> {
        let name = CollectionName::new(collection)?;
        caller.may_read(&name)?;
        let Some(shown) = self.view.collection(&name) else {
            // Until the state is loaded nobody knows what there is.
            self.desk()?;
            return Err(Problem::no_such_collection(collection));
        };
        Ok(Looked { name, shown })
    }
}

impl OfCollection {
    pub fn name(&self) -> Result<CollectionName, Problem> {
        Ok(CollectionName::new(&self.collection)?)
    }

    pub fn look(&self, shown: &Shown, caller: &Caller) -> Result<Looked, Problem> {
        shown.look(caller, &self.collection)
    }
}

impl OfFace {
    pub fn names(&self) -> Result<(CollectionName, FaceId), Problem> {
        Ok((CollectionName::new(&self.collection)?, FaceId::new(&self.face_id)?))
    }

    pub fn look(&self, shown: &Shown, caller: &Caller) -> Result<(Looked, FaceId), Problem> {
        Ok((shown.look(caller, &self.collection)?, FaceId::new(&self.face_id)?))
    }
}

impl OfCluster {
    pub fn names(&self) -> Result<(CollectionName, ClusterId), Problem> {
        Ok((CollectionName::new(&self.collection)?, cluster_id(&self.cluster_id)?))
    }

    pub fn look(&self, shown: &Shown, caller: &Caller) -> Result<(Looked, ClusterId), Problem> {
        Ok((shown.look(caller, &self.collection)?, cluster_id(&self.cluster_id)?))
    }
}

/// The collections the token is for
#[utoipa::path(get, path = "/v1/collections", tag = "collections", responses((status = 200, body = Collections), Problems))]
pub async fn collections(State(shown): State<Shown>, caller: Caller) -> Result<Answer<Collections>, Problem> {
    shown.desk()?;
    let all = shown.view.collections().into_iter().filter(|(name, _)| caller.sees(name));
    Ok(Answer(Collections { collections: all.map(|(name, shown)| Collection::of(&name, &shown)).collect() }))
}

/// One collection: how many faces and clusters, and of what sizes
#[utoipa::path(
    get, path = "/v1/collections/{collection}", tag = "collections", params(OfCollection),
    responses((status = 200, body = Collection), Problems)
)]
pub async fn collection(
    State(shown): State<Shown>,
    caller: Caller,
    Path(path): Path<OfCollection>,
) -> Result<Answer<Collection>, Problem> {
    let Looked { name, shown } = path.look(&shown, &caller)?;
    Ok(Answer(Collection::of(&name, &shown)))
}

/// The living cluster of a face
#[utoipa::path(
    get, path = "/v1/collections/{collection}/faces/{face_id}", tag = "faces", params(OfFace),
    responses((status = 200, body = Face), Problems)
)]
pub async fn face(
    State(shown): State<Shown>,
    caller: Caller,
    Path(path): Path<OfFace>,
) -> Result<Answer<Face>, Problem> {
    let (Looked { shown, .. }, face) = path.look(&shown, &caller)?;
    let listed = shown.cluster_of(&face).ok_or_else(|| Problem::no_such_face(&face))?;
    Ok(Answer(Face::of(&face, listed)))
}

/// The living clusters, by size or by recent change
#[utoipa::path(
    get, path = "/v1/collections/{collection}/clusters", tag = "clusters", params(OfCollection, ClustersAsked),
    responses((status = 200, body = Clusters), Problems)
)]
pub async fn clusters(
    State(shown): State<Shown>,
    caller: Caller,
    Path(path): Path<OfCollection>,
    Query(asked): Query<ClustersAsked>,
) -> Result<Answer<Clusters>, Problem> {
    let Looked { shown, .. } = path.look(&shown, &caller)?;
    let (order, page) = (asked.order(), asked.page());
    let Page { items, next } = shown.clusters(order, page.after::<AfterCluster>()?, page.limit()?);
    Ok(Answer(Clusters { clusters: items.iter().map(Cluster::of).collect(), next: next.as_ref().map(cursor) }))
}

/// One cluster, also one that went into another
#[utoipa::path(
    get, path = "/v1/collections/{collection}/clusters/{cluster_id}", tag = "clusters", params(OfCluster),
    responses((status = 200, body = Cluster), Problems)
)]
pub async fn cluster(
    State(shown): State<Shown>,
    caller: Caller,
    Path(path): Path<OfCluster>,
) -> Result<Answer<Cluster>, Problem> {
    let (Looked { shown, .. }, id) = path.look(&shown, &caller)?;
    let listed = shown.cluster(id).ok_or_else(|| Problem::no_such_cluster(id))?;
    Ok(Answer(Cluster::of(listed)))
}

/// The faces of a living cluster
#[utoipa::path(
    get, path = "/v1/collections/{collection}/clusters/{cluster_id}/faces", tag = "clusters",
    params(OfCluster, PageAsked), responses((status = 200, body = Members), Problems)
)]
pub async fn members(
    State(shown): State<Shown>,
    caller: Caller,
    Path(path): Path<OfCluster>,
    Query(page): Query<PageAsked>,
) -> Result<Answer<Members>, Problem> {
    let (looked, id) = path.look(&shown, &caller)?;
    looked.check_living(id)?;
    let Page { items, next } = looked.shown.members(id, page.after::<AfterFace>()?, page.limit()?);
    let faces = items.iter().map(|face| Member { face_id: face.to_string() }).collect();
    Ok(Answer(Members { faces, next: next.as_ref().map(cursor) }))
}

/// What operators said of two faces
#[utoipa::path(
    get, path = "/v1/collections/{collection}/constraints", tag = "constraints", params(OfCollection, PageAsked),
    responses((status = 200, body = Constraints), Problems)
)]
pub async fn constraints(
    State(shown): State<Shown>,
    caller: Caller,
    Path(path): Path<OfCollection>,
    Query(page): Query<PageAsked>,
) -> Result<Answer<Constraints>, Problem> {
    let Looked { shown, .. } = path.look(&shown, &caller)?;
    let Page { items, next } = shown.constraints(page.after::<PairOfFaces>()?, page.limit()?);
    Ok(Answer(Constraints { constraints: items.iter().map(Constraint::of).collect(), next: next.as_ref().map(cursor) }))
}

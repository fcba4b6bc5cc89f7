//! What only the engine can answer: whom an embedding looks like, why two faces are together, what lies around a
//! cluster. It does so between two batches.

use axum::Json as Answer;
use axum::extract::State;
use nalgebra::{DMatrix, SymmetricEigen};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::access::Caller;
use super::answers::{Found, FoundCluster, Picture, Pictured, PicturedLinkage, Step, Why};
use super::problem::Problem;
use super::reading::{Looked, OfCluster, OfCollection};
use super::requests::{EmbeddingAsked, Json, Path, Query, limit};
use super::{Problems, Shown};
use crate::engine::look::{self, WhyError};
use crate::face::{CollectionName, Embedding, FaceId};

/// An embedding, and where to look for its like.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Search {
    /// The default one where it is left out.
    collection: Option<String>,
    embedding: EmbeddingAsked,
    /// Clusters at most.
    #[schema(minimum = 1, maximum = 1000, default = 50)]
    limit: Option<usize>,
}

/// The clusters an embedding would join, with the linkages that speak for it
#[utoipa::path(
    post, path = "/v1/search", tag = "search", request_body = Search, responses((status = 200, body = Found), Problems)
)]
pub async fn search(
    State(api): State<Shown>,
    caller: Caller,
    Json(asked): Json<Search>,
) -> Result<Answer<Found>, Problem> {
    let desk = api.desk()?;
    let collection = match &asked.collection {
        Some(name) => CollectionName::new(name)?,
        None => desk.default_collection.clone(),
    };
    let Looked { name, .. } = api.look(&caller, collection.as_str())?;
    let most = limit(asked.limit)?;
    let embedding = Embedding::normalise(&asked.embedding.values()?, desk.dimension)?;
    let found = desk.asks.look(name.clone(), move |engine| engine.find(&embedding)).await?;
    let found = found.ok_or_else(|| Problem::no_such_collection(name.as_str()))?.map_err(Problem::of_engine)?;
    // A cluster that ended since the engine answered is left out.
    let Looked { shown, .. } = api.look(&caller, name.as_str())?;
    let cluster = |found: look::FoundCluster| {
        let listed = shown.cluster(found.id)?;
        Some(FoundCluster::of(found, listed))
    };
    let clusters = found.clusters.into_iter().filter_map(cluster).take(most).collect();
    Ok(Answer(Found { would_join: found.would_join.map(|id| id.to_string()), clusters }))
}

/// Two faces.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct TwoFaces {
    #[param(min_length = 1, max_length = 512)]
    a: String,
    #[param(min_length = 1, max_length = 512)]
    b: String,
}

impl TwoFaces {
    pub fn ids(&self) -> Result<(FaceId, FaceId), Problem> {
        Ok((FaceId::new(&self.a)?, FaceId::new(&self.b)?))
    }
}

/// Why two faces are together: the way of links between them whose weakest is the strongest
#[utoipa::path(
    get, path = "/v1/collections/{collection}/why", tag = "faces", params(OfCollection, TwoFaces),
    responses((status = 200, body = Why), Problems)
)]
pub async fn why(
    State(shown): State<Shown>,
    caller: Caller,
    Path(path): Path<OfCollection>,
    Query(asked): Query<TwoFaces>,
) -> Result<Answer<Why>, Problem> {
    let Looked { name, .. } = path.look(&shown, &caller)?;
    let (a, b) = asked.ids()?;
    let found = shown.desk()?.asks.look(name.clone(), move |engine| engine.why(&a, &b)).await?;
    let look::Why { together, threshold, path } =
        found.ok_or_else(|| Problem::no_such_collection(name.as_str()))?.map_err(Problem::from)?;
    Ok(Answer(Why { together, threshold, path: path.into_iter().map(Step::of).collect() }))
}

impl From<WhyError> for Problem {
    fn from(error: WhyError) -> Problem {
        match error {
            WhyError::UnknownFace(face) => Problem::no_such_face(face),
            WhyError::TooFar => Problem::unprocessable("too-far", error.to_string()),
        }
    }
}

/// A cluster and who is most like it, in two dimensions
#[utoipa::path(
    get, path = "/v1/collections/{collection}/clusters/{cluster_id}/picture", tag = "clusters", params(OfCluster),
    responses((status = 200, body = Picture), Problems)
)]
pub async fn picture(
    State(shown): State<Shown>,
    caller: Caller,
    Path(path): Path<OfCluster>,
) -> Result<Answer<Picture>, Problem> {
    let (looked, id) = path.look(&shown, &caller)?;
    looked.check_living(id)?;
    let look = move |engine: &crate::engine::Engine| {
        let size = engine.clusters().book().get(id)?.size;
        Some((engine.picture(id)?, size, engine.clusters().merging().threshold))
    };
    let found = shown.desk()?.asks.look(looked.name, look).await?.flatten();
    let (look::Picture { faces, linkages }, size, threshold) = found.ok_or_else(|| Problem::no_such_cluster(id))?;
    // Milliseconds of plain computing, which are not to be spent among connections.
    let (faces, places) = tokio::task::spawn_blocking(move || {
        let places = flattened(&faces.iter().map(|face| face.enhanced.as_slice()).collect::<Vec<_>>());
        (faces, places)
    })
    .await
    .map_err(|_| Problem::internal())?;
    let id_of = |place: usize| faces[place].face.to_string();
    let linkages = linkages.iter().map(|linkage| PicturedLinkage {
        a: id_of(linkage.a),
        b: id_of(linkage.b),
        linkage: linkage.linkage,
    });
    let linkages = linkages.collect();
    let shown = faces.iter().filter(|face| face.cluster == id).count();
    let faces = faces.iter().zip(places).map(|(face, [x, y])| Pictured {
        face_id: face.face.to_string(),
        cluster_id: face.cluster.to_string(),
        x,
        y,
    });
    let faces = faces.collect();
    Ok(Answer(Picture { cluster_id: id.to_string(), size, shown, threshold, faces, linkages }))
}

/// The rows on the two axes along which they vary most (Pearson 1901), by the eigenvectors of their Gram matrix: they
/// are fewer than they are wide.
fn flattened(rows: &[&[f32]]) -> Vec<[f32; 2]> {
    let Some(width) = rows.first().map(|row| row.len()) else { return Vec::new() };
    let mut centred = DMatrix::from_fn(rows.len(), width, |row, value| rows[row][value]);
    for mut column in centred.column_iter_mut() {
        let mean = column.mean();
        column.add_scalar_mut(-mean);
    }
    let SymmetricEigen { eigenvectors, eigenvalues } = SymmetricEigen::new(&centred * centred.transpose());
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by(|&a, &b| eigenvalues[b].total_cmp(&eigenvalues[a]));
    let on_axis = |axis: usize| -> Vec<f32> {
        let Some(&axis) = order.get(axis) else { return vec![0.0; rows.len()] };
        let vector = eigenvectors.column(axis);
        // An eigenvector has no sign: the largest of its values is to be above 0, so that a picture keeps its sides.
        let largest =
            vector.iter().copied().fold(0.0f32, |most, value| if value.abs() > most.abs() { value } else { most });
        let length = eigenvalues[axis].max(0.0).sqrt() * if largest < 0.0 { -1.0 } else { 1.0 };
        vector.iter().map(|value| value * length).collect()
    };
    on_axis(0).into_iter().zip(on_axis(1)).map(|(x, y)| [x, y]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_of_a_plane_keep_their_distances() {
        let points: [[f32; 3]; 4] = [[0.0, 0.0, 1.0], [3.0, 0.0, 1.0], [3.0, 1.0, 1.0], [0.0, 1.0, 1.0]];
        let rows: Vec<&[f32]> = points.iter().map(|point| point.as_slice()).collect();
        let flat = flattened(&rows);
        for a in 0..4 {
            for b in 0..4 {
                let apart = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(x, y)| (x - y).powi(2)).sum::<f32>().sqrt();
                assert!((apart(&points[a], &points[b]) - apart(&flat[a], &flat[b])).abs() < 1e-4, "{flat:?}");
            }
        }
        assert_eq!((flattened(&[]), flattened(&[&[1.0, 2.0]])), (Vec::new(), vec![[0.0, 0.0]]));
    }
}

//! What is done by hand, as the audit log names it.

use std::path::Path;

use serde::Serialize;

use crate::engine::changes::{Constraint, ConstraintKind, Request};
use crate::face::{CollectionName, FaceId};
use crate::rejection::Reason;

/// What is done.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Deed {
    what: &'static str,
    /// None: it is done to the state as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    collection: Option<CollectionName>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    face_ids: Vec<FaceId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pinned: Option<bool>,
    /// Whether a name was given or taken away; which one is nobody's business here.
    #[serde(skip_serializing_if = "Option::is_none")]
    named: Option<bool>,
    /// The folder that it is made of: a backup, a damaged state.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    /// Of dead letters.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<Reason>,
}

impl Deed {
    fn new(what: &'static str, collection: &CollectionName) -> Deed {
        Deed { what, collection: Some(collection.clone()), ..Deed::default() }
    }

    fn with(self, face_ids: Vec<FaceId>) -> Deed {
        Deed { face_ids, ..self }
    }

    fn to(self, cluster: impl ToString) -> Deed {
        Deed { cluster_id: Some(cluster.to_string()), ..self }
    }

    /// Of requests that are one deed: the faces of several erases are named together.
    pub fn of(collection: &CollectionName, requests: &[Request]) -> Deed {
        let new = |what| Deed::new(what, collection);
        let erased = requests.iter().filter_map(|request| match request {
            Request::Erase { face, .. } => Some(face.clone()),
            _ => None,
        });
        match requests.first() {
            Some(Request::EraseCluster { cluster }) => new("erase_cluster").to(cluster),
            Some(Request::EraseCollection) => new("erase_collection"),
            Some(Request::Constrain(Constraint { kind: ConstraintKind::MustLink, a, b, .. })) => {
                new("must_link").with(vec![a.clone(), b.clone()])
            }
            Some(Request::Constrain(Constraint { a, b, .. })) => new("cannot_link").with(vec![a.clone(), b.clone()]),
            Some(Request::Release { a, b }) => new("release").with(vec![a.clone(), b.clone()]),
            Some(Request::Describe { cluster, pinned, name }) => {
                Deed { pinned: Some(*pinned), named: Some(name.is_some()), ..new("describe").to(cluster) }
            }
            Some(Request::Erase { .. } | Request::Face(_)) | None => new("erase_faces").with(erased.collect()),
        }
    }

    /// What is said of a cluster: none stays as it is.
    pub fn describe(
        collection: &CollectionName,
        cluster: impl ToString,
        pinned: Option<bool>,
        named: Option<bool>,
    ) -> Deed {
        Deed { pinned, named, ..Deed::new("describe", collection).to(cluster) }
    }

    /// A face into another cluster.
    pub fn move_face(collection: &CollectionName, face: FaceId, cluster: impl ToString) -> Deed {
        Deed::new("move", collection).with(vec![face]).to(cluster)
    }

    /// Erased faces may come back.
    pub fn allow(collection: &CollectionName, faces: Vec<FaceId>) -> Deed {
        Deed::new("allow", collection).with(faces)
    }

    /// The state is written anew, without what was erased.
    pub fn compact() -> Deed {
        Deed { what: "compact", ..Deed::default() }
    }

    /// Every face is clustered anew.
    pub fn recluster(model: &str) -> Deed {
        Deed { what: "recluster", model: Some(model.to_string()), ..Deed::default() }
    }

    /// The state is the one of a backup from now on.
    pub fn restore(from: &Path) -> Deed {
        Deed { what: "restore", from: Some(from.display().to_string()), ..Deed::default() }
    }

    /// The state is what was left of a damaged one.
    pub fn repair(from: &Path) -> Deed {
        Deed { what: "repair", from: Some(from.display().to_string()), ..Deed::default() }
    }

    /// The state goes on under another name and tells everything anew.
    pub fn new_incarnation() -> Deed {
        Deed { what: "new_incarnation", ..Deed::default() }
    }

    /// Records of dead letters are sent again.
    pub fn redrive(reasons: impl IntoIterator<Item = Reason>) -> Deed {
        Deed { what: "redrive", reasons: reasons.into_iter().collect(), ..Deed::default() }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::face::ClusterId;

    #[test]
    fn a_name_that_was_given_is_not_in_it() {
        let name = Some("Ada Lovelace".to_string());
        let request = Request::Describe { cluster: ClusterId(7), pinned: true, name };
        let deed = serde_json::to_value(Deed::of(&CollectionName::new("lobby").unwrap(), &[request])).unwrap();
        let expected =
            json!({ "what": "describe", "collection": "lobby", "cluster_id": "7", "pinned": true, "named": true });
        assert_eq!(deed, expected);
    }

    #[test]
    fn what_is_done_to_all_of_a_state_is_of_no_collection() {
        let deed = serde_json::to_value(Deed::restore(Path::new("/backups/monday"))).unwrap();
        assert_eq!(deed, json!({ "what": "restore", "from": "/backups/monday" }));
    }
}

//! The records of a batch, sorted by collection: what is asked of each, and what is turned away at
//! the door because no engine has to be asked.

use std::collections::{BTreeMap, HashSet};

use super::settings::ShardSettings;
use super::sharding::Sharding;
use crate::config::Collections;
use crate::engine::Engine;
use crate::engine::changes::Request;
use crate::engine::event::Cause;
use crate::face::{CollectionName, FaceId};
use crate::metrics::Metrics;
use crate::rejection::{Reason, Rejection};
use crate::source::{Content, FaceRejected, Record};
use crate::store::{FaceKey, Store};

/// What is asked of a collection, and the record each request came in.
#[derive(Debug, Default)]
pub struct Requests {
    pub records: Vec<Record>,
    pub requests: Vec<Request>,
}

/// A batch, sorted.
#[derive(Debug, Default)]
pub struct Sorted {
    pub asked: BTreeMap<CollectionName, Requests>,
    /// Faces that are to be erased and not to come back, also those that retention takes first.
    pub erased: Vec<FaceKey>,
}

/// Sorts one batch.
pub struct Sorting<'a> {
    engines: &'a BTreeMap<CollectionName, Engine>,
    store: &'a Store,
    collections: &'a Collections,
    sharding: Sharding,
    asked: BTreeMap<CollectionName, Requests>,
    /// Faces this batch brings, and those it erases: the next record finds them so.
    coming: HashSet<FaceKey>,
    erased: HashSet<FaceKey>,
}

impl<'a> Sorting<'a> {
    pub fn new(
        engines: &'a BTreeMap<CollectionName, Engine>,
        store: &'a Store,
        settings: &'a ShardSettings,
    ) -> Sorting<'a> {
        let (asked, coming, erased) = Default::default();
        let ShardSettings { collections, sharding, .. } = settings;
        Sorting { engines, store, collections, sharding: *sharding, asked, coming, erased }
    }

    /// Sorts a record in; answers it with the reason when it is rejected here.
    pub fn take(&mut self, record: Record, content: Content, metrics: &Metrics) -> Option<FaceRejected> {
        match self.sort(&record, content) {
            Ok(Some((collection, request))) => {
                let requests = self.asked.entry(collection).or_default();
                requests.records.push(record);
                requests.requests.push(request);
                None
            }
            Ok(None) => {
                metrics.duplicates.inc();
                None
            }
            Err(rejection) => Some(FaceRejected { record, rejection }),
        }
    }

    pub fn finish(self) -> Sorted {
        Sorted { asked: self.asked, erased: self.erased.into_iter().collect() }
    }

    /// None: it is so already.
    fn sort(&mut self, record: &Record, content: Content) -> Result<Option<(CollectionName, Request)>, Rejection> {
        match content {
            Content::Rejected(rejection) => Err(rejection),
            Content::Face { collection, face } => {
                self.check_home(&collection)?;
                let key = FaceKey { collection: collection.clone(), face: face.id.clone() };
                if self.is_suppressed(&key) {
                    let detail = "this face was erased and is kept from coming back; `facetd allow` lets it";
                    return Err(Rejection::new(Reason::Suppressed, detail));
                }
                self.check_room(&collection)?;
                self.coming.insert(key);
                Ok(Some((collection, Request::Face(face))))
            }
            Content::Erase { collection, face_id } => {
                self.check_home(&collection)?;
                let key = FaceKey { collection: collection.clone(), face: face_id.clone() };
                if !self.is_there(&collection, &face_id) && !self.coming.contains(&key) {
                    return match self.is_suppressed(&key) {
                        true => Ok(None),
                        false => {
                            let detail = "there is no face of this id in the collection, so nothing to erase";
                            Err(Rejection::new(Reason::UnknownFace, detail))
                        }
                    };
                }
                self.coming.remove(&key);
                self.erased.insert(key);
                Ok(Some((collection, Request::Erase { face: face_id, cause: Cause::Record(record.place) })))
            }
        }
    }

    fn is_suppressed(&self, key: &FaceKey) -> bool {
        self.erased.contains(key) || self.store.is_suppressed(&key.collection, &key.face)
    }

    fn is_there(&self, collection: &CollectionName, face: &FaceId) -> bool {
        self.engines.get(collection).is_some_and(|engine| engine.faces().node(face).is_some())
    }

    fn check_home(&self, collection: &CollectionName) -> Result<(), Rejection> {
        let (home, Sharding { shard, shards }) = (self.sharding.home_of(collection), self.sharding);
        match home == shard {
            true => Ok(()),
            false => {
                let detail = format!(
                    "the home of collection {collection} is shard {home} of {shards}, and this partition is shard {shard}'s; \
                     send its faces to a partition of shard {home}"
                );
                Err(Rejection::new(Reason::WrongShard, detail))
            }
        }
    }

    fn check_room(&self, collection: &CollectionName) -> Result<(), Rejection> {
        let is_in_use = self.engines.get(collection).is_some_and(|engine| !engine.is_empty());
        if is_in_use || self.asked.contains_key(collection) {
            return Ok(());
        }
        // One that was erased whole gives its place back, and the default one has always had its own.
        let in_use = self.engines.values().filter(|engine| !engine.is_empty()).count();
        let started = self.asked.keys().filter(|name| self.engines.get(name).is_none_or(Engine::is_empty)).count();
        let most = self.collections.max;
        match *collection == self.collections.default || in_use + started < most {
            true => Ok(()),
            false => {
                let detail = format!("there are {most} collections already; raise collections.max");
                Err(Rejection::new(Reason::CollectionLimit, detail))
            }
        }
    }
}

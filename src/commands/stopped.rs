//! What the commands have in common that an operator gives a stopped daemon's state: where it is,
//! and the daemon's own way of changing it. The daemon publishes what they did when it runs again.

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;
use facetd::audit::{self, Audit, AuditError, Begun, Deed, Hand};
use facetd::clock::now;
use facetd::config::Config;
use facetd::daemon::LoadedModel;
use facetd::daemon::shard::{Shard, ShardSettings};
use facetd::engine::changes::{Outcome, Request};
use facetd::face::{ClusterId, CollectionName, FaceId, Timestamp};
use facetd::store::Store;

use super::{configuration, ending, progress};

#[derive(Args)]
pub struct Target {
    /// The daemon's configuration; it says where the state is
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// The collection; collections.default when not given
    #[arg(long, value_name = "NAME")]
    pub collection: Option<String>,
}

/// A collection of a stopped daemon's state. Nobody else has it open meanwhile.
pub struct Stopped {
    pub store: Store,
    pub collection: CollectionName,
    config: Config,
}

impl Target {
    pub fn open(&self) -> anyhow::Result<Stopped> {
        let config = configuration(&self.config)?;
        let collection = match &self.collection {
            Some(name) => CollectionName::new(name)?,
            None => config.collections.default.clone(),
        };
        ending::if_interrupted(|| "the state is whole, with all of what was asked or nothing of it".to_string());
        let _busy = progress::busy("the state is being opened");
        let store = Store::open_existing(&config.state.dir)?;
        let mut names: Vec<&str> = store.collections().map(CollectionName::as_str).collect();
        names.sort_unstable();
        if !names.contains(&collection.as_str()) {
            bail!("there is no collection {collection}; give --collection one of: {}", names.join(", "));
        }
        Ok(Stopped { store, collection, config })
    }
}

impl Stopped {
    /// An id of a face, whether or not it is there.
    pub fn face_id(id: &str) -> anyhow::Result<FaceId> {
        FaceId::new(id).with_context(|| format!("{id:?} is no face_id"))
    }

    /// An error unless the face is there.
    pub fn check_face(&self, face: &FaceId) -> anyhow::Result<()> {
        let collection = &self.collection;
        match self.store.face(collection, face)? {
            Some(_) => Ok(()),
            None if self.store.is_suppressed(collection, face) => {
                bail!("face {face} of collection {collection} is erased already")
            }
            None => bail!("collection {collection} has no face {face}; check the id and --collection"),
        }
    }

    /// An error unless the cluster lives.
    pub fn check_cluster(&self, id: ClusterId) -> anyhow::Result<()> {
        let collection = &self.collection;
        match self.store.cluster(collection, id)? {
            Some(cluster) if cluster.lives() => Ok(()),
            Some(_) => {
                let living = self.store.living_cluster(collection, id)?.id;
                bail!("cluster {id} of collection {collection} went into cluster {living}; name that one")
            }
            None => {
                bail!("collection {collection} has no cluster {id}; `facetd inspect face ID` tells a face's cluster")
            }
        }
    }

    /// Writes down that it is asked for; without that it must not be done.
    pub fn begin(&self, deed: Deed) -> Result<Begun, AuditError> {
        Audit::open(&self.config.audit())?.begin(Hand::of_user(), deed)
    }

    /// Restores the collection, as the daemon does when it starts. O(faces).
    pub fn restore(self) -> anyhow::Result<Operated> {
        let Stopped { store, collection, config } = self;
        let _busy = progress::busy("the collection is being restored");
        let LoadedModel { artefact, model } = LoadedModel::load(&config.model)?;
        let settings = ShardSettings::new(&config, &artefact);
        store.check_model(&settings.model)?;
        let audit = Audit::open(&config.audit())?;
        let shard = Shard::open_one(store, &collection, settings, model)?;
        Ok(Operated { shard, collection, now: now(), audit })
    }
}

/// A restored collection, which an operator may ask something of.
pub struct Operated {
    pub shard: Shard,
    pub collection: CollectionName,
    pub now: Timestamp,
    audit: Audit,
}

impl Operated {
    /// Applies requests as one commit, written down before and after. Those turned away are an error that says why.
    pub fn ask(&mut self, requests: Vec<Request>) -> anyhow::Result<Vec<Outcome>> {
        self.ask_as(Deed::of(&self.collection, &requests), requests)
    }

    /// As [`Operated::ask`], written down as `deed`.
    pub fn ask_as(&mut self, deed: Deed, requests: Vec<Request>) -> anyhow::Result<Vec<Outcome>> {
        let begun = self.audit.begin(Hand::of_user(), deed)?;
        let outcomes = match self.shard.operate(&self.collection, requests, self.now) {
            Ok(outcomes) => outcomes,
            Err(error) => {
                // A commit that failed may be on disk.
                let _ = begun.end(&audit::Outcome::Unknown { why: error.to_string() });
                return Err(error.into());
            }
        };
        let rejection = outcomes.iter().find_map(|outcome| match outcome {
            Outcome::Rejected(rejection) => Some(rejection.detail.clone()),
            _ => None,
        });
        let erased = outcomes.iter().filter_map(|outcome| match outcome {
            Outcome::Erased(faces) => Some(*faces),
            _ => None,
        });
        let told = match rejection.clone() {
            Some(why) => audit::Outcome::Refused { why },
            None => audit::Outcome::erased(erased.reduce(|a, b| a + b)),
        };
        // What is done stays done where that cannot be written down; the log on standard error says so.
        let _ = begun.end(&told);
        match rejection {
            Some(why) => bail!("{why}"),
            None => Ok(outcomes),
        }
    }

    pub fn ask_one(&mut self, request: Request) -> anyhow::Result<Outcome> {
        self.ask(vec![request])?.pop().context("a request without an outcome; this is a bug")
    }
}

//! Every invariant of a state directory, checked offline and without changing it ([`super::look`]).
//!
//! What is broken is named, all of it. A record that cannot be read is named once: what could only be
//! said with it is left unsaid, and noted. Not broken is what opening mends: the rests of a commit, a
//! compaction or a rewrite that died.
//!
//! What clusters have to do with linkages is decided by the merging rule, and holds at rest: while
//! faces are stale, hysteresis keeps clusters together whose linkages have gone, and a component above
//! `max_component` waits for a quiet moment. So it is claimed of a collection whose last event says
//! that it has settled, and up to `engine.hnsw_few` faces: beyond, the graph is another after a
//! restart and linkages change before clusters do. Other collections are noted.
//!
//! Cost: O(faces + linkages) time; memory that of the largest collection.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;

use serde::Serialize;

use super::checks::{self, Broken, Check, Parts};
use super::keys::{self, Key};
use super::look::Look;
use super::outbox::{Entry, Published};
use super::records::CollectionRecord;
use super::restore;
use super::suppressed::Suppressed;
use super::vectors::VectorFile;
use super::{Model, StoreError, sums};
use crate::engine::cluster::{ClusterSettings, Clusters, Differing};
use crate::engine::event::Event;
use crate::engine::standing::Standing;
use crate::face::{CollectionName, Embedding, NodeId, Offset, Partition, Position, Timestamp};
use crate::progress::{Progress, Tally};

/// Faces up to which a settled collection's clusters are held against its linkages, when nobody says
/// otherwise: the shipped `engine.hnsw_few`.
pub const FEW: usize = 40_000;

/// How often something of a face is looked at: its [three records](keys::is_of_a_face) alone and with those of its
/// collection, its embedding, and all of it in the checks.
const LOOKS_A_FACE: u64 = 2 * RECORDS_A_FACE + 2;
const RECORDS_A_FACE: u64 = 3;

/// The merging rule that clusters are to be the result of.
pub struct Rule<'a> {
    pub model: Model,
    pub settings: &'a dyn Fn(&CollectionName) -> ClusterSettings,
}

/// What is known besides the state.
pub struct Known<'a> {
    pub rule: Option<Rule<'a>>,
    /// See [`FEW`].
    pub few: usize,
}

impl Default for Known<'_> {
    fn default() -> Self {
        Known { rule: None, few: FEW }
    }
}

/// How a check came out.
#[derive(Debug, Clone, Serialize)]
pub struct Checked {
    pub check: Check,
    /// How many things were looked at.
    pub looked_at: u64,
    pub broken: Vec<Broken>,
}

/// What was found in a state directory.
#[derive(Debug, Serialize)]
pub struct Report {
    pub state_uuid: Option<String>,
    pub commit_sequence: u64,
    /// Where each partition is read on from.
    #[serde(skip)]
    pub positions: BTreeMap<Partition, Offset>,
    /// Every check, in order.
    pub checks: Vec<Checked>,
    /// What opening the directory would mend.
    pub mends: Vec<String>,
    /// What could not be claimed, and why.
    pub notes: Vec<String>,
    /// sled could not be read to its end: what is not broken was not checked.
    pub ended_early: bool,
}

impl Report {
    fn new() -> Report {
        let checks = Check::ALL.map(|check| Checked { check, looked_at: 0, broken: Vec::new() });
        Report {
            state_uuid: None,
            commit_sequence: 0,
            positions: BTreeMap::new(),
            checks: checks.to_vec(),
            mends: Vec::new(),
            notes: Vec::new(),
            ended_early: false,
        }
    }

    fn of_an_unreadable(error: &StoreError) -> Report {
        let mut report = Report { ended_early: true, ..Report::new() };
        report.found([Broken { check: Check::Records, collection: None, what: error.to_string() }]);
        report
    }

    pub fn is_whole(&self) -> bool {
        self.checks.iter().all(|checked| checked.broken.is_empty())
    }

    /// The checks that found something.
    pub fn broken(&self) -> BTreeSet<Check> {
        self.checks.iter().filter(|checked| !checked.broken.is_empty()).map(|checked| checked.check).collect()
    }

    fn looked_at(&mut self, check: Check, things: usize) {
        self.checks[check as usize].looked_at += things as u64;
    }

    fn found(&mut self, broken: impl IntoIterator<Item = Broken>) {
        for broken in broken {
            self.checks[broken.check as usize].broken.push(broken);
        }
    }
}

/// Checks the state in `path`. An error: it could not be looked at. Progress is in looks at what there is of a face, and
/// begins once sled is copied.
pub fn verify(path: &Path, known: &Known, progress: &mut dyn FnMut(Progress)) -> Result<Report, StoreError> {
    let mut report = Report::new();
    let look = match Look::open(path) {
        Ok(look) => look,
        Err(error @ StoreError::Unreadable { .. }) => return Ok(Report::of_an_unreadable(&error)),
        Err(error) => return Err(error),
    };
    if let Some(rule) = &known.rule {
        look.identity.check_model(path, &rule.model)?;
    }
    report.state_uuid = Some(look.identity.state_uuid.clone());
    report.mends = look.mends.clone();
    let verified = faces_said(&look).and_then(|faces| {
        let tally = Tally::new(faces.saturating_mul(LOOKS_A_FACE), progress);
        Verifier { look: &look, known, report, tally, faces }.run()
    });
    match verified.map_err(|error| look.failed(error)) {
        Err(error @ StoreError::Unreadable { .. }) => Ok(Report::of_an_unreadable(&error)),
        report => report,
    }
}

/// How many faces the collections say they have.
fn faces_said(look: &Look) -> Result<u64, StoreError> {
    let records = look.space.survey::<CollectionRecord>(&keys::collections(), &mut Vec::new())?;
    Ok(records.iter().map(|(_, record)| record.faces).fold(0, u64::saturating_add))
}

struct Verifier<'a> {
    look: &'a Look,
    known: &'a Known<'a>,
    report: Report,
    tally: Tally<'a>,
    /// As the collections say.
    faces: u64,
}

impl Verifier<'_> {
    fn run(mut self) -> Result<Report, StoreError> {
        let owners = self.records()?;
        let mut damaged = Vec::new();
        let collections = self.collections(&mut damaged)?;
        let unreadable: BTreeSet<Option<CollectionName>> = damaged.iter().map(|key| keys::owner_of(key)).collect();
        for (name, records) in owners {
            if !collections.contains_key(&name) && !unreadable.contains(&Some(name.clone())) {
                let what = format!("{records} records, which is not there,");
                self.report.found([Broken { check: Check::Collections, collection: Some(name), what }]);
            }
        }
        self.report.looked_at(Check::Collections, collections.len());
        let suppressed = self.suppressed(&mut damaged)?;
        for (name, record) in &collections {
            self.collection(name, *record, &suppressed, &mut damaged)?;
        }
        self.positions(&mut damaged)?;
        self.outbox(&collections, &mut damaged)?;
        self.orphans(&collections, &unreadable)?;
        self.report.commit_sequence = self.look.space.get(&keys::commit_sequence()).ok().flatten().unwrap_or(0);
        self.unreadable(damaged);
        Ok(self.report)
    }

    /// Looks over every record; answers how many each collection has.
    fn records(&mut self) -> Result<BTreeMap<CollectionName, usize>, StoreError> {
        let mut owners: BTreeMap<CollectionName, usize> = BTreeMap::new();
        let mut records = 0;
        let mut broken = Vec::new();
        let mut unreadable: BTreeSet<Vec<u8>> = BTreeSet::new();
        self.look.space.look_over(|key, is_whole| {
            records += 1;
            self.tally.add(u64::from(keys::is_of_a_face(key)));
            if !is_whole {
                unreadable.extend(sums::scope(key).map(<[u8]>::to_vec));
            }
            match keys::owner_of(key) {
                Some(owner) => *owners.entry(owner).or_default() += 1,
                None if keys::is_of_the_state(key) => {}
                None => broken.push(format!("the record {}, of no kind there is", key.escape_ascii())),
            }
            // The others are read by those who know what they are.
            if !is_whole && key.starts_with(b"!") {
                broken.push(format!("the record {}", key.escape_ascii()));
            }
        })?;
        // Not every face has linkages.
        self.tally.reach(self.faces.saturating_mul(RECORDS_A_FACE));
        // A record that cannot be read is told of as that.
        for scope in self.look.space.incomplete()?.into_iter().filter(|scope| !unreadable.contains(scope)) {
            broken.push(match scope.is_empty() {
                true => "records of the state, which are lost or older than they should be,".to_string(),
                false => format!(
                    "records of collection {}, which are lost or older than they should be,",
                    scope.escape_ascii()
                ),
            });
        }
        self.report.looked_at(Check::Records, records);
        self.report.found(broken.into_iter().map(|what| Broken { check: Check::Records, collection: None, what }));
        Ok(owners)
    }

    fn collections(
        &mut self,
        damaged: &mut Vec<Key>,
    ) -> Result<BTreeMap<CollectionName, CollectionRecord>, StoreError> {
        let records = self.look.space.survey::<CollectionRecord>(&keys::collections(), damaged)?;
        Ok(records.into_iter().filter_map(|(key, record)| Some((keys::collection_of(&key)?, record))).collect())
    }

    fn suppressed(&mut self, damaged: &mut Vec<Key>) -> Result<Suppressed, StoreError> {
        let records = self.look.space.survey::<Timestamp>(&keys::all_suppressed(), damaged)?;
        self.report.looked_at(Check::Suppressed, records.len());
        let hashes = records.iter().filter_map(|(key, _)| keys::suppressed_of(key)).collect();
        Ok(Suppressed::new(self.look.identity.suppression_key.clone(), hashes))
    }

    fn collection(
        &mut self,
        name: &CollectionName,
        record: CollectionRecord,
        suppressed: &Suppressed,
        damaged: &mut Vec<Key>,
    ) -> Result<(), StoreError> {
        let mut own = Vec::new();
        let parts = Parts::read(&self.look.space, name, record, &mut own)?;
        self.tally.add(RECORDS_A_FACE * parts.faces.len() as u64);
        let kinds: HashSet<u8> = own.iter().filter_map(|key| key.first().copied()).collect();
        damaged.extend(own);
        let embeddings = self.vectors(&parts)?;
        let commit_sequence = self.look.space.get::<u64>(&keys::commit_sequence()).ok().flatten().unwrap_or(u64::MAX);

        let mut broken = Vec::new();
        let mut unsaid = Vec::new();
        // A check, what it looks at, and the kinds of records that have to be readable for it.
        let mut check = |check: Check, looked_at: usize, needs: &[u8], run: &dyn Fn(&mut Vec<Broken>)| {
            if needs.iter().any(|kind| kinds.contains(kind)) {
                unsaid.push(check.name());
                return;
            }
            self.report.looked_at(check, looked_at);
            run(&mut broken);
        };
        let faces = parts.faces.len();
        check(Check::Faces, faces, b"f", &|broken| checks::faces(&parts, broken));
        check(Check::Ids, parts.nodes.len(), b"fi", &|broken| checks::ids(&parts, broken));
        check(Check::Arrivals, faces, b"", &|broken| checks::arrivals(&parts, broken));
        check(Check::Embeddings, faces, b"", &|broken| checks::embeddings(&parts, &embeddings, broken));
        check(Check::Homes, faces, b"k", &|_| {});
        check(Check::Sizes, parts.clusters.len(), b"fk", &|_| {});
        check(Check::Clusters, parts.clusters.len(), b"fk", &|broken| {
            checks::clusters(&parts, broken);
            checks::unused_clusters(&parts, broken);
        });
        check(Check::Linkages, parts.linkages.len(), b"f", &|broken| {
            checks::owners_of_linkages(&parts, broken);
            checks::linkages(&parts, commit_sequence, broken);
        });
        check(Check::Constraints, parts.constraints.len(), b"f", &|broken| checks::constraints(&parts, broken));
        check(Check::Counters, 1, b"", &|broken| checks::counters(&parts, broken));
        check(Check::Suppressed, 0, b"", &|broken| {
            let there = parts.faces.iter().filter(|(_, face)| suppressed.contains(name, &face.id));
            broken.extend(there.map(|(_, face)| Broken {
                check: Check::Suppressed,
                collection: Some(name.clone()),
                what: format!("face {}, which was erased and is not to come back,", face.id),
            }));
        });
        if !unsaid.is_empty() {
            let what = unsaid.join(", ");
            self.report.notes.push(format!("collection {name}: {what} not checked, as records cannot be read"));
        }
        let is_whole = broken.is_empty() && kinds.is_empty() && embeddings.len() == faces;
        self.report.found(broken);
        self.clusters_against_linkages(parts, embeddings, is_whole);
        self.tally.add(faces as u64);
        Ok(())
    }

    /// What holds of a collection that is at rest.
    fn clusters_against_linkages(&mut self, parts: Parts, embeddings: HashMap<NodeId, Embedding>, is_whole: bool) {
        let (name, faces, counters) = (parts.name.clone(), parts.faces.len(), parts.record.counters);
        let why_not = match () {
            () if !is_whole => Some("other checks of it failed"),
            () if counters.settled != counters.sequence => Some("it has not settled"),
            () if faces > self.known.few => Some("it is larger than engine.hnsw_few"),
            () => None,
        };
        if let Some(why_not) = why_not {
            self.report.notes.push(format!("collection {name}: links, apart and rule not checked, as {why_not}"));
            return;
        }
        let clusters = parts.clusters.iter().filter(|(_, cluster)| cluster.lives()).count();
        let mut broken = Vec::new();
        self.report.looked_at(Check::Links, clusters);
        checks::links(&parts, &mut broken);
        self.report.looked_at(Check::Apart, clusters);
        checks::apart(&parts, &mut broken);
        if let Some(rule) = &self.known.rule {
            let settings = (rule.settings)(&name);
            let Standing { faces, clusters: kept } =
                Standing::of(restore::joined(parts, embeddings), self.look.identity.dimension);
            // Of a collection at rest nobody is stale.
            let found = Clusters::restore(settings, &faces, kept, std::iter::empty()).differing(&faces);
            self.report.looked_at(Check::Rule, clusters);
            self.report.found(found.into_iter().map(|Differing { face, faces }| Broken {
                check: Check::Rule,
                collection: Some(name.clone()),
                what: format!("{faces} faces, {face} the first of them, which the rule puts into one cluster,"),
            }));
        }
        self.report.found(broken);
    }

    /// Checks a vector file, and answers the embeddings of the faces there are.
    fn vectors(&mut self, parts: &Parts) -> Result<HashMap<NodeId, Embedding>, StoreError> {
        let file = vector_file(self.look, &parts.name, &parts.record);
        let nodes: HashSet<NodeId> = parts.faces.iter().map(|&(node, _)| node).collect();
        let survey = file.survey(|node| nodes.contains(&node))?;
        self.tally.add(nodes.len() as u64);
        self.report.looked_at(Check::Vectors, parts.record.records as usize);
        let shown = file.path.display();
        let broken = |what: String| Broken { check: Check::Vectors, collection: Some(parts.name.clone()), what };
        self.report.found(survey.wrong.iter().map(|what| broken(format!("{shown}: {what},"))));
        if survey.wrong.is_empty() {
            let numbers = survey.damaged.iter().map(|damaged| damaged.number);
            self.report.found(numbers.map(|number| broken(format!("{shown}: the checksum of record {number}"))));
        }
        if survey.beyond > 0 {
            let bytes = survey.beyond;
            self.report.mends.push(format!("cut {bytes} bytes of a commit that did not happen off {shown}"));
        }
        Ok(survey.embeddings.into_iter().map(|(node, surveyed)| (node, surveyed.embedding)).collect())
    }

    fn positions(&mut self, damaged: &mut Vec<Key>) -> Result<(), StoreError> {
        let positions = self.look.space.survey::<Position>(&keys::positions(), damaged)?;
        self.report.looked_at(Check::Positions, positions.len());
        for (key, record) in positions {
            self.report.positions.extend(keys::partition_of(&key).map(|partition| (partition, record.next)));
            if keys::partition_of(&key).is_none_or(|partition| partition.0 < 0) || record.next.0 < 0 {
                let what = format!("the position {} of {}", record.next.0, key.escape_ascii());
                self.report.found([Broken { check: Check::Positions, collection: None, what }]);
            }
        }
        Ok(())
    }

    /// What is to be published ends with the last that was numbered and has no gap; so do the events of
    /// each collection.
    fn outbox(
        &mut self,
        collections: &BTreeMap<CollectionName, CollectionRecord>,
        damaged: &mut Vec<Key>,
    ) -> Result<(), StoreError> {
        let mut own = Vec::new();
        let entries = self.look.space.survey::<Entry>(&keys::outbox_entries(), &mut own)?;
        self.report.looked_at(Check::Outbox, entries.len() + own.len());
        let readable = entries.iter().filter_map(|(key, _)| keys::outbox_sequence_of(key));
        let unreadable = own.iter().filter_map(|key| keys::outbox_sequence_of(key));
        let mut numbers: Vec<u64> = readable.chain(unreadable).collect();
        numbers.sort_unstable();
        let mut broken = Vec::new();
        for (number, next) in numbers.iter().zip(numbers.iter().skip(1)) {
            if number + 1 != *next {
                broken.push(format!("the outbox, without the entries after {number} and before {next}"));
            }
        }
        // What cannot be read is told of as a record.
        let counted = self.look.space.get::<u64>(&keys::outbox_sequence()).ok().map(Option::unwrap_or_default);
        let published = self.look.space.get::<Published>(&keys::published()).ok().flatten();
        if let (Some(last), Some(counted)) = (numbers.last(), counted)
            && *last != counted
        {
            broken.push(format!("the outbox, which ends with entry {last} of {counted}"));
        }
        if let (Some(Published { sequence, .. }), Some(counted)) = (published, counted)
            && sequence + 1 != numbers.first().copied().unwrap_or(counted + 1)
        {
            broken.push(format!("the outbox, without the entry after {sequence}, the last that was published"));
        }
        if own.is_empty() && broken.is_empty() {
            let events = entries.into_iter().filter_map(|(_, entry)| match entry {
                Entry::Event { collection, event, .. } => Some((collection, event)),
                _ => None,
            });
            let mut last: BTreeMap<CollectionName, u64> = BTreeMap::new();
            for (collection, Event { sequence, .. }) in events {
                if let Some(before) = last.insert(collection.clone(), sequence)
                    && before + 1 != sequence
                {
                    broken.push(format!("the events of collection {collection}, {before} before {sequence}"));
                }
            }
            for (collection, last) in last {
                let counted = collections.get(&collection).map(|record| record.counters.sequence);
                if counted.is_some_and(|counted| counted != last) {
                    broken.push(format!("the events of collection {collection}, the last of them {last}"));
                }
            }
        }
        damaged.extend(own);
        self.report.found(broken.into_iter().map(|what| Broken { check: Check::Outbox, collection: None, what }));
        Ok(())
    }

    /// Vector files that do not count, which opening removes.
    fn orphans(
        &mut self,
        collections: &BTreeMap<CollectionName, CollectionRecord>,
        unreadable: &BTreeSet<Option<CollectionName>>,
    ) -> Result<(), StoreError> {
        for file in self.look.directory.vector_files()? {
            let record = collections.get(&file.collection);
            let counts = record.is_some_and(|record| record.generation == file.generation && record.records > 0);
            if !counts && !unreadable.contains(&Some(file.collection.clone())) {
                let path = self.look.directory.vectors(&file.collection, file.generation);
                self.report.mends.push(format!("remove {}, which does not count", path.display()));
            }
        }
        Ok(())
    }

    fn unreadable(&mut self, damaged: Vec<Key>) {
        self.report.found(damaged.into_iter().map(|key| {
            let what = format!("the record {}", key.escape_ascii());
            Broken { check: Check::Records, collection: keys::owner_of(&key), what }
        }));
    }
}

/// The vector file that `record` speaks of.
pub(super) fn vector_file(look: &Look, name: &CollectionName, record: &CollectionRecord) -> VectorFile {
    VectorFile {
        path: look.directory.vectors(name, record.generation),
        dimension: look.identity.dimension,
        generation: record.generation,
        records: record.records,
    }
}

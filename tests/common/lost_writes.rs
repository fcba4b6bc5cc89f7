//! What a machine that dies may leave of the files a program wrote.
//!
//! tests/recorder records what a program does to the files of a folder. [`Disk`] follows that and
//! says what may be on the disk at any moment:
//!
//! - What a file held when it was synced last is there. Of what was written since each sector of 512
//!   bytes is as it was then or after any of the writes to it; a sector is never torn.
//! - A file's length is one it had since its last sync. Where its data did not come with it are zeros.
//! - `sync_file_range` makes data durable that lies within a durable length, and nothing else.
//! - A name that was made, renamed or removed is on disk once its folder is synced. Until then it
//!   may have happened or not, each on its own; a rename happens whole. An open file is found by no
//!   name that did not last.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::chance::Chance;
use super::{output_of, project};

const SECTOR: usize = 512;

/// One call, as the recorder tells it.
#[derive(Debug)]
pub enum Happening {
    Created { file: u32, name: String },
    Opened { file: u32, name: String },
    Written { file: u32, offset: usize, data: Vec<u8> },
    Resized { file: u32, length: usize },
    Synced { file: u32 },
    SyncedRange { file: u32, offset: usize, length: usize },
    SyncedFolder { name: String },
    Renamed { from: String, to: String },
    Removed { name: String },
    FolderMade { name: String },
    Printed { text: String },
}

/// Has `command` run with the recorder; what happened below `folder`, in order, and what it printed.
pub fn record(command: &mut Command, folder: &Path) -> Vec<Happening> {
    let scratch = tempfile::tempdir().unwrap();
    let (library, log) = (scratch.path().join("recorder.so"), scratch.path().join("log"));
    let source = project().join("tests/recorder/recorder.c");
    let mut compiler = Command::new("cc");
    output_of(
        compiler.args(["-Wall", "-Wextra", "-Werror", "-O1", "-shared", "-fPIC", "-o"]).args([&library, &source]),
    );
    output_of(command.env("LD_PRELOAD", &library).env("RECORD_FOLDER", folder).env("RECORD_LOG", &log));
    let bytes = std::fs::read(&log).expect("the recorder writes a log");
    read(&bytes)
}

/// The recorder, compiled into `folder`.
pub fn recorder(folder: &Path) -> PathBuf {
    let (source, library) = (project().join("tests/recorder/recorder.c"), folder.join("recorder.so"));
    let mut compiler = Command::new("cc");
    output_of(
        compiler.args(["-Wall", "-Wextra", "-Werror", "-O1", "-shared", "-fPIC", "-o"]).args([&library, &source]),
    );
    library
}

fn read(mut log: &[u8]) -> Vec<Happening> {
    let mut happenings = Vec::new();
    while !log.is_empty() {
        let (head, rest) = log.split_at(21);
        let number = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().unwrap());
        let (kind, file, a) = (head[0], number(1), u64::from_le_bytes(head[5..13].try_into().unwrap()) as usize);
        let (first, rest) = rest.split_at(number(13) as usize);
        let (second, rest) = rest.split_at(number(17) as usize);
        log = rest;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let name = || text(first);
        happenings.push(match kind {
            b'C' => Happening::Created { file, name: name() },
            b'O' => Happening::Opened { file, name: name() },
            b'W' => Happening::Written { file, offset: a, data: first.to_vec() },
            b'T' => Happening::Resized { file, length: a },
            b'S' if second == b"d" => Happening::SyncedFolder { name: name() },
            b'S' => Happening::Synced { file },
            b'R' => {
                let length = u64::from_le_bytes(first.try_into().unwrap()) as usize;
                Happening::SyncedRange { file, offset: a, length }
            }
            b'N' => Happening::Renamed { from: name(), to: text(second) },
            b'U' | b'X' => Happening::Removed { name: name() },
            b'D' => Happening::FolderMade { name: name() },
            b'P' => Happening::Printed { text: name() },
            b'!' => panic!("the recorder does not follow {}", name()),
            other => panic!("the recorder does not write {other}"),
        });
    }
    happenings
}

/// The files of a folder, as the program sees them and as they may be on disk.
#[derive(Default)]
pub struct Disk {
    nodes: Vec<Node>,
    /// Of every folder, by its number: the names that are on disk.
    durable: Names,
    /// By the recorder's numbers.
    files: BTreeMap<u32, usize>,
    /// Names made and removed that no sync of their folder followed, in order.
    unsynced: Vec<Naming>,
}

type Names = BTreeMap<usize, BTreeMap<String, usize>>;

/// A file, or a folder with the names that are seen in it, whatever its own name.
enum Node {
    File(Content),
    Folder(BTreeMap<String, usize>),
}

#[derive(Default)]
struct Content {
    durable: Vec<u8>,
    unsynced: Vec<Change>,
}

enum Change {
    Write { offset: usize, data: Vec<u8> },
    Resize { length: usize },
}

/// `to` leads to `node` from now on, or nowhere; `from`, if there is one, no longer does.
struct Naming {
    from: Option<(usize, String)>,
    to: (usize, String),
    node: Option<usize>,
}

/// How much of what was not synced is on disk.
#[derive(Clone, Copy)]
enum Luck {
    Nothing,
    Everything,
    /// Each with this probability.
    Some(f64),
    /// What was written in the first part of the time.
    First(f64),
}

impl Luck {
    fn draw(chance: &mut Chance) -> Luck {
        match chance.below(6) {
            0 => Luck::Nothing,
            1 => Luck::Everything,
            2 => Luck::First(chance.uniform()),
            _ => Luck::Some(chance.uniform()),
        }
    }

    /// Whether the one at `place` of `all` is on disk.
    fn has(self, place: usize, all: usize, chance: &mut Chance) -> bool {
        match self {
            Luck::Nothing => false,
            Luck::Everything => true,
            Luck::Some(probability) => chance.happens(probability),
            Luck::First(share) => (place as f64) < share * all as f64,
        }
    }
}

impl Disk {
    /// What is in `folder` now is on disk.
    pub fn of(folder: &Path) -> Disk {
        let mut disk = Disk::default();
        disk.take_in(folder);
        disk
    }

    fn take_in(&mut self, path: &Path) -> usize {
        let node = self.nodes.len();
        if path.is_file() {
            let durable = std::fs::read(path).unwrap();
            self.nodes.push(Node::File(Content { durable, unsynced: Vec::new() }));
            return node;
        }
        self.nodes.push(Node::Folder(BTreeMap::new()));
        self.durable.insert(node, BTreeMap::new());
        let mut entries: Vec<PathBuf> = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
        entries.sort();
        for entry in entries {
            let child = self.take_in(&entry);
            let name = entry.file_name().unwrap().to_str().unwrap().to_string();
            self.entries(node).insert(name.clone(), child);
            self.durable.entry(node).or_default().insert(name, child);
        }
        node
    }

    /// Follows the program by one call.
    pub fn follow(&mut self, happening: &Happening) {
        match happening {
            Happening::Created { file, name } => {
                let node = self.made(Node::File(Content::default()), name);
                self.files.insert(*file, node);
            }
            Happening::Opened { file, name } => {
                let node = self.node(name).expect("what is opened is there");
                self.files.insert(*file, node);
            }
            Happening::FolderMade { name } => drop(self.made(Node::Folder(BTreeMap::new()), name)),
            Happening::Written { file, offset, data } => {
                let change = Change::Write { offset: *offset, data: data.clone() };
                self.content(*file).unsynced.push(change);
            }
            Happening::Resized { file, length } => {
                self.content(*file).unsynced.push(Change::Resize { length: *length });
            }
            Happening::Synced { file } => {
                let content = self.content(*file);
                let changes = std::mem::take(&mut content.unsynced);
                changes.iter().for_each(|change| change.apply(&mut content.durable));
            }
            Happening::SyncedRange { file, offset, length } => self.content(*file).sync_range(*offset, *length),
            Happening::SyncedFolder { name } => self.sync_folder(name),
            Happening::Renamed { from, to } => {
                let (from, to) = (self.place(from), self.place(to));
                let node = self.entries(from.0).remove(&from.1);
                self.entries(to.0).insert(to.1.clone(), node.expect("what is renamed is there"));
                self.unsynced.push(Naming { from: Some(from), to, node });
            }
            Happening::Removed { name } => {
                let to = self.place(name);
                self.entries(to.0).remove(&to.1);
                self.unsynced.push(Naming { from: None, to, node: None });
            }
            Happening::Printed { .. } => {}
        }
    }

    fn made(&mut self, node: Node, name: &str) -> usize {
        let to = self.place(name);
        self.nodes.push(node);
        let node = self.nodes.len() - 1;
        self.entries(to.0).insert(to.1.clone(), node);
        self.unsynced.push(Naming { from: None, to, node: Some(node) });
        node
    }

    fn sync_folder(&mut self, name: &str) {
        let folder = self.node(name).expect("what is synced is there");
        let of_it = |naming: &Naming| {
            naming.to.0 == folder || naming.from.as_ref().is_some_and(|(parent, _)| *parent == folder)
        };
        let (synced, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.unsynced).into_iter().partition(of_it);
        self.unsynced = rest;
        for naming in synced {
            naming.apply(&mut self.durable);
        }
    }

    fn entries(&mut self, folder: usize) -> &mut BTreeMap<String, usize> {
        match &mut self.nodes[folder] {
            Node::Folder(seen) => seen,
            Node::File(_) => panic!("names are in folders"),
        }
    }

    fn content(&mut self, file: u32) -> &mut Content {
        match &mut self.nodes[self.files[&file]] {
            Node::File(content) => content,
            Node::Folder(_) => panic!("folders are not written"),
        }
    }

    /// The folder and the name that a path ends with.
    fn place(&self, path: &str) -> (usize, String) {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        (self.node(parent).expect("the folder is there"), name.to_string())
    }

    fn node(&self, path: &str) -> Option<usize> {
        path.split('/').filter(|part| !part.is_empty()).try_fold(0, |at, part| match &self.nodes[at] {
            Node::Folder(seen) => seen.get(part).copied(),
            Node::File(_) => None,
        })
    }

    /// Writes into the empty folder `to` what may be there if the machine dies now.
    pub fn crash(&self, chance: &mut Chance, to: &Path) {
        let mut names = self.durable.clone();
        let luck = Luck::draw(chance);
        for (place, naming) in self.unsynced.iter().enumerate() {
            if luck.has(place, self.unsynced.len(), chance) {
                naming.apply(&mut names);
            }
        }
        self.write(0, &names, chance, to);
    }

    fn write(&self, at: usize, names: &Names, chance: &mut Chance, to: &Path) {
        match &self.nodes[at] {
            Node::File(content) => std::fs::write(to, content.crash(chance)).unwrap(),
            Node::Folder(_) => {
                std::fs::create_dir_all(to).unwrap();
                for (name, &node) in names.get(&at).into_iter().flatten() {
                    self.write(node, names, chance, &to.join(name));
                }
            }
        }
    }
}

impl Naming {
    fn apply(&self, names: &mut Names) {
        if let Some((folder, name)) = &self.from {
            let entries = names.entry(*folder).or_default();
            if entries.get(name) == self.node.as_ref() {
                entries.remove(name);
            }
        }
        let (folder, name) = &self.to;
        let entries = names.entry(*folder).or_default();
        match self.node {
            Some(node) => drop(entries.insert(name.clone(), node)),
            None => drop(entries.remove(name)),
        }
    }
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Change::Resize { length } => bytes.resize(*length, 0),
            Change::Write { offset, data } => {
                bytes.resize(bytes.len().max(offset + data.len()), 0);
                bytes[*offset..offset + data.len()].copy_from_slice(data);
            }
        }
    }
}

impl Content {
    /// Data that is within the durable length becomes durable; a write beyond it does not.
    fn sync_range(&mut self, offset: usize, length: usize) {
        let Content { durable, unsynced } = self;
        unsynced.retain(|change| match change {
            Change::Write { offset: at, data }
                if *at >= offset && at + data.len() <= (offset + length).min(durable.len()) =>
            {
                change.apply(durable);
                false
            }
            _ => true,
        });
    }

    fn crash(&self, chance: &mut Chance) -> Vec<u8> {
        let (mut seen, mut disk) = (self.durable.clone(), self.durable.clone());
        let (data, lengths) = (Luck::draw(chance), Luck::draw(chance));
        let mut length = seen.len();
        for (place, change) in self.unsynced.iter().enumerate() {
            change.apply(&mut seen);
            if lengths.has(place, self.unsynced.len(), chance) {
                length = seen.len();
            }
            let Change::Write { offset, data: written } = change else {
                // What was cut off does not come back.
                disk.truncate(disk.len().min(seen.len()).max(length));
                continue;
            };
            disk.resize(disk.len().max(seen.len()), 0);
            let whole = data.has(place, self.unsynced.len(), chance);
            let torn = chance.happens(0.2);
            for sector in offset / SECTOR..(offset + written.len()).div_ceil(SECTOR) {
                let range = sector * SECTOR..((sector + 1) * SECTOR).min(seen.len());
                let kept = if torn { chance.happens(0.5) } else { whole };
                if kept {
                    disk[range.clone()].copy_from_slice(&seen[range]);
                }
            }
        }
        disk.resize(length, 0);
        disk
    }
}

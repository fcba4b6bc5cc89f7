//! `facetd token`: makes a token for the API and keeps its hash.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, ValueEnum};
use facetd::face::CollectionName;
use facetd::http::access::{self, Tokens};

#[derive(Args)]
pub struct Arguments {
    /// The file that http.tokens names; the token's hash is added to it
    #[arg(long, value_name = "FILE")]
    file: PathBuf,
    /// Who will have it: named in constraints and in the audit log
    #[arg(long)]
    name: String,
    /// What it may do
    #[arg(long, value_enum)]
    scope: Scope,
    /// A collection it is for; can be given more than once. Without: all
    #[arg(long = "collection", value_name = "NAME", value_parser = CollectionName::new)]
    collections: Vec<CollectionName>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Scope {
    /// Look
    Read,
    /// Look and change
    Write,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let Arguments { file, name, scope, collections } = arguments;
    let scope = match scope {
        Scope::Read => access::Scope::Read,
        Scope::Write => access::Scope::Write,
    };
    // One that is not right would not get better by another line.
    if std::fs::metadata(file).is_ok_and(|found| found.len() > 0) {
        Tokens::read(file)?;
    }
    let (secret, lines) = access::make(name, scope, collections.clone())?;
    let written = OpenOptions::new().create(true).append(true).mode(0o600).open(file);
    let written = written.and_then(|mut file| file.write_all(lines.as_bytes()).and_then(|()| file.sync_all()));
    written.with_context(|| format!("cannot write {}", file.display()))?;
    println!("{secret}");
    eprintln!(
        "this is the only time it is shown; its hash is in {}. A daemon that runs with this file takes it within seconds",
        file.display()
    );
    Ok(())
}

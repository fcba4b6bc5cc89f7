//! `facetd token`: makes a token for the API and keeps its hash.

use std::fmt;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, ValueEnum};
use facetd::face::CollectionName;
use facetd::http::access::{self, Tokens};
use serde::Serialize;

use super::output::{Output, note};

#[derive(Args)]
#[command(after_help = "Examples:
  facetd token --file /etc/facetd/tokens.toml --name grafana --scope read
  facetd token --file /etc/facetd/tokens.toml --name ada --scope write --collection lobby
  facetd token --file tokens.toml --name top --scope read >token && facetd top --token-file token

The token is printed once; the file holds its hash. Take its lines out of the file, and a daemon that runs refuses it within
seconds.")]
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
    #[command(flatten)]
    output: Output,
}

#[derive(Serialize)]
struct Made<'a> {
    token: String,
    name: &'a str,
    scope: access::Scope,
    /// Empty: all.
    collections: &'a [CollectionName],
    file: &'a std::path::Path,
}

impl fmt::Display for Made<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.token)
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum Scope {
    /// Look
    Read,
    /// Look and change
    Write,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let Arguments { file, name, scope, collections, output } = arguments;
    let scope = match scope {
        Scope::Read => access::Scope::Read,
        Scope::Write => access::Scope::Write,
    };
    // One that is not right would not get better by another line.
    Tokens::listed(file)?.check_free(name, file)?;
    let (secret, lines) = access::make(name, scope, collections.clone())?;
    let written = OpenOptions::new().create(true).append(true).mode(0o600).open(file);
    let written = written.and_then(|mut file| file.write_all(lines.as_bytes()).and_then(|()| file.sync_all()));
    written.with_context(|| format!("cannot write {}", file.display()))?;
    output.answer(&Made { token: secret, name, scope, collections, file })?;
    note(format_args!(
        "this is the only time it is shown; its hash is in {}. A daemon that runs with this file takes it within seconds",
        file.display()
    ));
    Ok(())
}

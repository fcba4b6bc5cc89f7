//! Who may ask what: API tokens, in a file of their hashes.
//!
//! A token is 32 random bytes, so that one SHA-256 of it is as good as it is and cannot be tried out; it is looked up
//! by that hash, and how long that takes says nothing of it. Without a token file everyone may do everything, which is
//! why the daemon then listens on loopback alone.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Shown;
use super::problem::Problem;
use crate::face::CollectionName;
use crate::permissions::{self, OTHERS_READ, OTHERS_WRITE};

/// What every token begins with, so that one that leaked is known for what it is.
const PREFIX: &str = "facetd_";
const TOKEN_BYTES: usize = 32;
/// Of a token's name: it goes into constraints and the audit log.
const MAX_NAME_BYTES: usize = 64;

/// What a token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Look.
    Read,
    /// Look and change.
    Write,
}

/// A token as it is kept: without itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// Who has it.
    pub name: String,
    /// SHA-256 of the token, in hexadecimal.
    pub sha256: String,
    pub scope: Scope,
    /// Collections it is for; none: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub collections: Vec<CollectionName>,
}

/// The file of tokens.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenFile {
    #[serde(default)]
    token: Vec<Token>,
}

/// Why a file of tokens is of no use.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error("cannot read the tokens in {}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("everyone on this machine may read the tokens in {}: chmod 600 it", path.display())]
    WorldReadable { path: PathBuf },
    #[error(
        "others on this machine may write the tokens in {}, and so add one: chmod 600 it, and see that each in it is known",
        path.display()
    )]
    OthersWrite { path: PathBuf },
    #[error("there is no token in {}, and nobody could ask: facetd token writes one", path.display())]
    NoToken { path: PathBuf },
    #[error("the tokens in {} are not right: {what}; facetd token writes them", path.display())]
    NotRight { path: PathBuf, what: String },
    #[error(
        "there is a token named {name:?} in {}, and two of a name could not be told apart in the audit log: give another name, \
         or take that one's lines out",
        path.display()
    )]
    NameTaken { path: PathBuf, name: String },
    #[error("the name of a token is 1 to {MAX_NAME_BYTES} bytes without line breaks, and this is {0:?}")]
    BadName(String),
}

/// All tokens there are.
#[derive(Debug, Default)]
pub struct Tokens {
    /// By SHA-256.
    by_hash: HashMap<[u8; 32], Arc<Token>>,
}

impl Tokens {
    /// What a daemon starts with: a list without a token is a mistake then, since nobody could ask.
    pub fn read(path: &Path) -> Result<Tokens, TokenError> {
        let tokens = Tokens::parsed(path)?;
        match tokens.is_empty() {
            true => Err(TokenError::NoToken { path: path.to_path_buf() }),
            false => Ok(tokens),
        }
    }

    /// What the file lists: nothing where it is empty or gone, for so the last token is taken back.
    pub fn listed(path: &Path) -> Result<Tokens, TokenError> {
        match Tokens::parsed(path) {
            Err(TokenError::Read { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(Tokens::default()),
            parsed => parsed,
        }
    }

    fn parsed(path: &Path) -> Result<Tokens, TokenError> {
        let read = |source| TokenError::Read { path: path.to_path_buf(), source };
        let (mode, text) = permissions::read_text(path).map_err(read)?;
        if mode & OTHERS_WRITE != 0 {
            return Err(TokenError::OthersWrite { path: path.to_path_buf() });
        }
        if mode & OTHERS_READ != 0 {
            return Err(TokenError::WorldReadable { path: path.to_path_buf() });
        }
        let not_right = |what| TokenError::NotRight { path: path.to_path_buf(), what };
        let file: TokenFile = toml::from_str(&text).map_err(|error| not_right(error.message().to_string()))?;
        let mut by_hash = HashMap::new();
        let mut names = HashSet::new();
        for token in file.token {
            if !names.insert(token.name.clone()) {
                // Not refused: nobody could ask any more.
                let (name, file) = (&token.name, path.display());
                tracing::warn!(name, %file, "two tokens have this name, and cannot be told apart in the audit log");
            }
            let hash = from_hex(&token.sha256)
                .ok_or_else(|| not_right(format!("sha256 of {} is not 64 hexadecimal digits", token.name)))?;
            by_hash.insert(hash, Arc::new(token));
        }
        Ok(Tokens { by_hash })
    }

    /// An error where a token of the file at `path` has this name.
    pub fn check_free(&self, name: &str, path: &Path) -> Result<(), TokenError> {
        match self.by_hash.values().any(|token| token.name == name) {
            true => Err(TokenError::NameTaken { path: path.to_path_buf(), name: name.to_string() }),
            false => Ok(()),
        }
    }

    /// Whether nobody may ask.
    pub fn is_empty(&self) -> bool {
        self.by_hash.is_empty()
    }

    pub fn len(&self) -> usize {
        self.by_hash.len()
    }

    fn of(&self, token: &str) -> Option<Arc<Token>> {
        self.by_hash.get(&hash_of(token)).cloned()
    }

    /// Who `caller` is by these tokens; none: its token is not among them.
    pub fn again(&self, caller: &Caller) -> Option<Caller> {
        let Some(token) = &caller.0 else { return Some(caller.clone()) };
        let known = self.by_hash.get(&from_hex(&token.sha256)?)?;
        Some(Caller(Some(known.clone())))
    }
}

/// Makes a token: what to hand out, and the lines to append to the file of tokens.
pub fn make(name: &str, scope: Scope, collections: Vec<CollectionName>) -> Result<(String, String), TokenError> {
    if name.is_empty() || name.len() > MAX_NAME_BYTES || name.chars().any(char::is_control) {
        return Err(TokenError::BadName(name.to_string()));
    }
    let mut bytes = [0; TOKEN_BYTES];
    getrandom::fill(&mut bytes).expect("the system has random numbers");
    let secret = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes));
    let token = Token { name: name.to_string(), sha256: to_hex(&hash_of(&secret)), scope, collections };
    let lines = toml::to_string(&TokenFile { token: vec![token] }).expect("names and words are plain data");
    Ok((secret, lines))
}

fn hash_of(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes().as_chunks::<2>().0;
    let bytes = digits.iter().map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
    bytes.collect::<Option<Vec<u8>>>()?.try_into().ok().filter(|_| text.len() == 64)
}

/// Whoever asks.
#[derive(Debug, Clone)]
pub struct Caller(Option<Arc<Token>>);

impl Caller {
    /// Whoever asks where there are no tokens.
    pub fn anyone() -> Caller {
        Caller(None)
    }

    /// The name of its token, for those who ask later who did it.
    pub fn name(&self) -> &str {
        self.0.as_ref().map_or("api", |token| &token.name)
    }

    pub fn may_read(&self, collection: &CollectionName) -> Result<(), Problem> {
        self.may(Scope::Read, collection)
    }

    pub fn may_write(&self, collection: &CollectionName) -> Result<(), Problem> {
        self.may(Scope::Write, collection)
    }

    /// Whether a list may name the collection.
    pub fn sees(&self, collection: &CollectionName) -> bool {
        self.may_read(collection).is_ok()
    }

    fn may(&self, scope: Scope, collection: &CollectionName) -> Result<(), Problem> {
        let Some(token) = &self.0 else { return Ok(()) };
        let forbidden = |detail: String| Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", detail));
        if !token.collections.is_empty() && !token.collections.contains(collection) {
            return forbidden(format!("this token is not for collection {collection}"));
        }
        match token.scope >= scope {
            true => Ok(()),
            false => forbidden("this token may only read".to_string()),
        }
    }
}

impl FromRequestParts<Shown> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, shown: &Shown) -> Result<Caller, Problem> {
        let Some(tokens) = &shown.tokens else { return Ok(Caller::anyone()) };
        let tokens = tokens.borrow().clone();
        let refused = |detail: &str| {
            shown.metrics.http_refused.inc();
            Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
        };
        let given = parts.headers.get(header::AUTHORIZATION);
        let given = given.ok_or_else(|| refused("send a token: Authorization: Bearer facetd_…"))?;
        let token = given.to_str().ok().and_then(|value| value.strip_prefix("Bearer "));
        let token = token.ok_or_else(|| refused("Authorization is not of the form Bearer facetd_…"))?;
        let known = tokens.of(token.trim()).ok_or_else(|| refused("this token is not known here"))?;
        Ok(Caller(Some(known)))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_token_that_was_made_is_known_and_another_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.toml");
        let lobby = CollectionName::new("lobby").unwrap();
        let (reader, read) = make("grafana", Scope::Read, Vec::new()).unwrap();
        let (writer, write) = make("ada", Scope::Write, vec![lobby.clone()]).unwrap();
        std::fs::write(&path, read + &write).unwrap();
        for (mode, way_out) in [(0o604, "chmod 600"), (0o602, "each in it is known"), (0o660, "each in it is known")] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert!(Tokens::read(&path).unwrap_err().to_string().contains(way_out));
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let tokens = Tokens::read(&path).unwrap();
        let (reader, writer) = (Caller(tokens.of(&reader)), Caller(tokens.of(&writer)));
        assert_eq!((reader.name(), writer.name()), ("grafana", "ada"));
        assert!(matches!(tokens.check_free("ada", &path), Err(TokenError::NameTaken { .. })));
        tokens.check_free("bob", &path).unwrap();
        let hall = CollectionName::new("hall").unwrap();
        let may =
            |caller: &Caller, collection| (caller.may_read(collection).is_ok(), caller.may_write(collection).is_ok());
        assert_eq!([may(&reader, &lobby), may(&reader, &hall)], [(true, false), (true, false)]);
        assert_eq!([may(&writer, &lobby), may(&writer, &hall)], [(true, true), (false, false)]);
        assert!(tokens.of("facetd_").is_none());
    }

    #[test]
    fn a_file_that_is_not_right_is_told_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.toml");
        assert!(matches!(Tokens::read(&path), Err(TokenError::Read { .. })));
        assert!(Tokens::listed(&path).unwrap().is_empty());
        for text in ["[[token]]\nname = \"a\"\nsha256 = \"xyz\"\nscope = \"read\"\n", "[[token]]\nscope = \"all\"\n"] {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            assert!(matches!(Tokens::read(&path), Err(TokenError::NotRight { .. })), "{text}");
        }
        assert!(make("", Scope::Read, Vec::new()).is_err() && make("a\nb", Scope::Read, Vec::new()).is_err());
    }
}

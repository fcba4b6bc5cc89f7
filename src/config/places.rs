//! Where in the file a key stands, for errors that name it.

use std::collections::HashMap;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue, Error};

/// The lines of a file's keys.
pub(super) struct Places<'a> {
    file: &'a Path,
    lines: HashMap<String, usize>,
}

impl<'a> Places<'a> {
    /// Of a file that is no TOML there are none.
    pub(super) fn of(file: &'a Path, text: &str) -> Places<'a> {
        let mut lines = HashMap::new();
        if let Ok(table) = DeTable::parse(text) {
            for (section, value) in table.get_ref() {
                let name = section.get_ref().to_string();
                if let DeValue::Table(keys) = value.get_ref() {
                    let line_of = |key: &Spanned<_>| line(text, key.span().start);
                    lines.extend(keys.iter().map(|(key, _)| (format!("{name}.{}", key.get_ref()), line_of(key))));
                }
                lines.insert(name, line(text, section.span().start));
            }
        }
        Places { file, lines }
    }

    /// `error`, which begins with its key, after where that stands; as it is when it is not of the file.
    pub(super) fn named(&self, error: String) -> String {
        let key = error.split(':').next().unwrap_or_default();
        // A key of a free table is told of by a longer name than it has here.
        let line = self.lines.get(key).or_else(|| {
            let mut parts = key.splitn(3, '.');
            self.lines.get(&format!("{}.{}", parts.next()?, parts.next()?))
        });
        line.map_or(error.clone(), |line| format!("{}:{line}: {error}", self.file.display()))
    }
}

/// What is no TOML, and where. The line itself may hold a secret, and is not shown.
pub(super) fn syntax(file: Option<&Path>, text: &str, error: &Error) -> String {
    let what = error.message().trim().replace('\n', ", ");
    match (file, error.span()) {
        (Some(file), Some(span)) => format!("{}:{}: {what}", file.display(), line(text, span.start)),
        (Some(file), None) => format!("{}: {what}", file.display()),
        (None, Some(span)) => format!("line {}: {what}", line(text, span.start)),
        (None, None) => what,
    }
}

/// From 1.
fn line(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|&byte| byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_told_with_its_line() {
        let text = "colour = 1\n[kafka]\n# a comment\nbroker = \"x\"\nlibrdkafka_options = { a = 1 }\n[collections.override]\nlobby = { quality_floor = 2 }\n";
        let places = Places::of(Path::new("/etc/f.toml"), text);
        let named = |error: &str| places.named(error.to_string());
        assert_eq!(named("kafka.broker: unknown key"), "/etc/f.toml:4: kafka.broker: unknown key");
        assert_eq!(named("colour: unknown section"), "/etc/f.toml:1: colour: unknown section");
        let floor = "collections.override.lobby.quality_floor: 2 is not 0 to 1";
        assert_eq!(named(floor), format!("/etc/f.toml:6: {floor}"));
        assert_eq!(named("engine.index: of the environment"), "engine.index: of the environment");
    }
}

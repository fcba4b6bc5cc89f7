//! What commands answer: text for people, or JSON for programs, on standard output. All else, such as progress, notes and
//! logs, goes to standard error.
//!
//! Whoever reads may have seen enough (`facetd inspect faces | head -1`): what nobody wants is not written, and is no
//! failure. So nothing is printed by `println!`, which panics then; lints see to it.

use std::fmt::Display;
use std::io::{BufWriter, ErrorKind, Write};

use anyhow::Context;
use chrono::{DateTime, SecondsFormat};
use clap::Args;
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table, Width};
use facetd::face::Timestamp;
use serde::Serialize;

/// How it is answered.
#[derive(Args, Clone, Copy)]
pub struct Output {
    /// Answer as JSON
    #[arg(long, global = true)]
    json: bool,
}

impl Output {
    pub fn is_json(self) -> bool {
        self.json
    }

    /// All that a command has to say: as it displays itself, or as one JSON object.
    pub fn answer(self, answer: &(impl Serialize + Display)) -> anyhow::Result<()> {
        match self.json {
            true => written(|out| {
                serde_json::to_writer_pretty(&mut *out, answer)?;
                writeln!(out)
            }),
            false => written(|out| writeln!(out, "{}", answer.to_string().trim_end_matches('\n'))),
        }
    }

    /// What may be too much to be one object: a line each, as it displays itself, or a JSON object.
    pub fn lines<T: Serialize + Display>(
        self,
        lines: impl IntoIterator<Item = anyhow::Result<T>>,
    ) -> anyhow::Result<()> {
        let mut failed = Ok(());
        let told = written(|out| {
            for line in lines {
                match line {
                    Ok(line) if self.json => writeln!(out, "{}", serde_json::to_string(&line)?)?,
                    Ok(line) => writeln!(out, "{line}")?,
                    Err(error) => {
                        failed = Err(error);
                        break;
                    }
                }
            }
            Ok(())
        });
        failed.and(told)
    }
}

/// Writes to standard output, as long as somebody reads it.
pub fn written(write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> anyhow::Result<()> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    let outcome = write(&mut out).and_then(|()| out.flush());
    if outcome.is_err() {
        // What could not be written is not tried again.
        drop(out.into_parts());
    }
    match outcome {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome.context("cannot write the answer to standard output"),
    }
}

/// A line on standard error, above any bar that is shown. Nobody may be listening any more.
pub fn note(line: impl Display) {
    super::progress::above(|| drop(writeln!(std::io::stderr(), "{line}")));
}

/// A table without lines. Columns are as wide as given, with their numbers to the right; the last is as wide as what is in
/// it, and on a terminal its words go on below where they have no room.
pub fn table(widths: &[u16], numbers: &[usize], rows: impl IntoIterator<Item = Vec<String>>) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Dynamic).add_rows(rows);
    for (place, column) in table.column_iter_mut().enumerate() {
        let is_number = numbers.contains(&place);
        column.set_padding(if is_number { (0, 2) } else { (0, 0) });
        if is_number {
            column.set_cell_alignment(CellAlignment::Right);
        }
        if let Some(&width) = widths.get(place) {
            column.set_constraint(ColumnConstraint::Absolute(Width::Fixed(width)));
        }
    }
    table
}

/// A time as the wire has it.
pub fn rfc3339(at: Timestamp) -> String {
    DateTime::from_timestamp_millis(at.0).unwrap_or_default().to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Vec<String>> {
        vec![
            vec!["state".into(), "ok".into(), "/var/lib/facetd, 3 collections".into()],
            vec!["broker".into(), "FAIL".into(), "no broker answers at 127.0.0.1:9092; see to kafka.brokers".into()],
        ]
    }

    #[test]
    fn a_table_is_no_wider_than_the_terminal_and_loses_no_word() {
        let mut narrow = table(&[8, 7], &[], rows());
        let text = narrow.set_width(40).trim_fmt();
        assert!(text.lines().all(|line| line.chars().count() <= 40), "{text}");
        let words: Vec<&str> = text.split_whitespace().collect();
        assert!(rows().iter().flatten().flat_map(|cell| cell.split(' ')).all(|word| words.contains(&word)), "{text}");
        let mut lines = text.lines().skip_while(|line| !line.starts_with("broker  FAIL   no broker"));
        assert!(lines.nth(1).is_some_and(|line| line.starts_with("               ")), "{text}");
    }

    #[test]
    fn where_there_is_no_terminal_a_row_is_a_line() {
        let text = table(&[8, 7], &[], rows()).force_no_tty().trim_fmt();
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.starts_with("state   ok     /var/lib/facetd, 3 collections\n"), "{text}");
    }
}

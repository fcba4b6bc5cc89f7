//! What a vector leaves behind: any 16 bytes of it, in any of the forms it may have been written in,
//! wherever in the files of a folder.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Shorter traces say nothing: they are found by chance.
pub const WINDOW: usize = 16;

/// A vector in one way of writing it.
pub struct Form {
    pub name: &'static str,
    pub bytes: Vec<u8>,
}

/// What is looked for.
#[derive(Default)]
pub struct Traces {
    /// Window to whose it is and in which form.
    windows: HashMap<[u8; WINDOW], String>,
}

/// Where a trace was found.
pub type Found = BTreeMap<String, BTreeSet<PathBuf>>;

impl Traces {
    /// Looks for every form of these values too; a find is told as `whose`.
    pub fn of_vector(&mut self, whose: &str, values: &[f32]) {
        for Form { name, bytes } in forms(values) {
            self.of_bytes(&format!("{whose}, {name}"), &bytes);
        }
    }

    /// Looks for these bytes too.
    pub fn of_bytes(&mut self, whose: &str, bytes: &[u8]) {
        for window in bytes.windows(WINDOW) {
            self.windows.insert(window.try_into().unwrap(), whose.to_string());
        }
    }

    /// What of it is in a file of `folder` or below.
    pub fn found_in(&self, folder: &Path) -> Found {
        let mut found = Found::new();
        for file in files(folder) {
            let bytes = std::fs::read(&file).unwrap();
            for window in bytes.windows(WINDOW) {
                if let Some(whose) = self.windows.get(window) {
                    found.entry(whose.clone()).or_default().insert(file.clone());
                }
            }
        }
        found
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// The forms that are looked for: as the vector is and normalised.
pub fn forms(values: &[f32]) -> Vec<Form> {
    let length = values.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt();
    let normalised: Vec<f32> = values.iter().map(|&value| (f64::from(value) / length) as f32).collect();
    let written = |names: [&'static str; 4], values: &[f32]| {
        let [single, half, base64, json] = names;
        let little_endian: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        [
            Form { name: base64, bytes: STANDARD.encode(&little_endian).into_bytes() },
            Form { name: single, bytes: little_endian },
            Form { name: half, bytes: values.iter().flat_map(|&value| half_precision(value).to_le_bytes()).collect() },
            Form { name: json, bytes: serde_json::to_vec(values).unwrap() },
        ]
    };
    let raw = written(["raw f32", "raw f16", "raw base64", "raw JSON"], values);
    let normalised = written(["normalised f32", "normalised f16", "normalised base64", "normalised JSON"], &normalised);
    raw.into_iter().chain(normalised).collect()
}

/// IEEE 754 binary16, rounded to nearest, ties to even.
pub fn half_precision(value: f32) -> u16 {
    let bits = value.to_bits();
    let sign = (bits >> 16) as u16 & 0x8000;
    let magnitude = f64::from(value.abs());
    // Below the smallest normal number the steps stay as they are there: 2^-24.
    let exponent = (magnitude.log2().floor() as i32).max(-14);
    let mut fraction = (magnitude / 2f64.powi(exponent - 10)).round_ties_even() as u32;
    let mut biased = exponent + 15;
    if fraction == 2048 {
        (fraction, biased) = (1024, biased + 1);
    }
    match (magnitude, biased) {
        (0.0, _) => sign,
        (_, 31..) => sign | 0x7c00,
        _ if fraction < 1024 => sign | fraction as u16,
        _ => sign | (biased as u16) << 10 | (fraction as u16 & 0x3ff),
    }
}

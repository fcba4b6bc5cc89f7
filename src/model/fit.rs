//! Does a model fit the faces it meets? It learned on neighbourhoods as near as `[neighbour_similarity]` of model.toml
//! says: cosine quantiles of all `hop1` neighbours of the faces it was trained on. Another embedder, another
//! alignment or much worse pictures show there before they show in clusters.
//!
//! Among fewer faces than it was trained on neighbours are farther, and how much depends on who is left. Of an even
//! draw, the nearest `hop1` × share neighbours of each face are the whole's neighbourhoods thinned out; of a share of
//! the people with all their faces, strangers are thinned out and friends are not. Nobody can tell which it is, so both
//! quantiles are taken, of the nearest and of all neighbours, and the model's may be anywhere from one to the other.

use rayon::prelude::*;
use serde::Deserialize;

use crate::engine::faces::dot;
use crate::face::Embedding;

/// How far a quantile may be off. Measured on LFW (128-d, hop1 16, trained on half of the people): the same embedder's faces
/// were up to 0.11 off, drawn either way; with half of the pictures degraded 0.12 to 0.18, with the mean of the
/// embeddings shifted 0.16 to 0.19, another embedder's 0.3 to 0.4 unless only a few hundred were drawn.
pub const BOUND: f32 = 0.12;
/// Those that are held against each other. The outermost are few faces' and differ in any draw.
const COMPARED: std::ops::Range<usize> = 1..4;

/// Cosine quantiles of faces' neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(try_from = "QuantileTable")]
pub struct Quantiles([f32; 5]);

/// [neighbour_similarity] as it is written.
#[derive(Debug, Deserialize)]
struct QuantileTable {
    q01: f32,
    q10: f32,
    q50: f32,
    q90: f32,
    q99: f32,
}

impl TryFrom<QuantileTable> for Quantiles {
    type Error = String;

    fn try_from(table: QuantileTable) -> Result<Quantiles, String> {
        let QuantileTable { q01, q10, q50, q90, q99 } = table;
        let quantiles = [q01, q10, q50, q90, q99];
        match quantiles.is_sorted() && quantiles.iter().all(|cosine| (-1.0..=1.0).contains(cosine)) {
            true => Ok(Quantiles(quantiles)),
            false => Err(format!("neighbour_similarity is {quantiles:?}, not five cosines in ascending order")),
        }
    }
}

impl Quantiles {
    /// Which they are, as Prometheus writes it.
    pub const NAMES: [&str; 5] = ["0.01", "0.1", "0.5", "0.9", "0.99"];
    const SHARES: [f64; 5] = [0.01, 0.1, 0.5, 0.9, 0.99];

    /// By the nearest rank, as models/train takes them; none of nothing.
    pub fn of(mut similarities: Vec<f32>) -> Option<Quantiles> {
        let last = similarities.len().checked_sub(1)?;
        similarities.sort_unstable_by(f32::total_cmp);
        Some(Quantiles(Quantiles::SHARES.map(|share| similarities[(share * last as f64).round() as usize])))
    }

    /// Each with its name, to the four places model.toml has.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, f64)> {
        Quantiles::NAMES.into_iter().zip(self.0.map(|cosine| (f64::from(cosine) * 1e4).round() / 1e4))
    }

    /// A model that was trained on nothing has zeros.
    pub fn is_nothing(&self) -> bool {
        self.0 == [0.0; 5]
    }
}

/// What a model was trained at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrainedAt {
    pub quantiles: Quantiles,
    /// How many faces it was trained on; None where model.toml does not say: any number is as good then.
    pub faces: Option<usize>,
    pub hop1: usize,
}

/// What a model was trained at, and what faces have.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fit {
    model: Quantiles,
    /// Of all their neighbours.
    all: Quantiles,
    /// Of the nearest, as many as are left of the whole's neighbours in an even draw.
    nearest: Quantiles,
}

/// How far a quantile is from the model's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Difference {
    pub quantile: &'static str,
    /// Above 0: these neighbours are nearer.
    pub by: f32,
}

impl TrainedAt {
    /// How many faces it takes to compare: of fewer, not even the nearest neighbour is one of the whole's.
    pub fn fewest(&self) -> usize {
        self.faces.unwrap_or(0).div_ceil(self.hop1).max(self.hop1 + 1)
    }

    /// Compares with the `neighbourhoods`, cosines from the nearest on, of some of `faces` faces. None: too few.
    pub fn compare(&self, faces: usize, neighbourhoods: &[Vec<f32>]) -> Option<Fit> {
        if faces < self.fewest() {
            return None;
        }
        let share = faces as f64 / self.faces.unwrap_or(faces) as f64;
        let left = (self.hop1 as f64 * share.min(1.0)).round() as usize;
        let of_nearest = |count: usize| {
            Quantiles::of(neighbourhoods.iter().flat_map(|cosines| cosines.iter().take(count).copied()).collect())
        };
        Some(Fit { model: self.quantiles, all: of_nearest(self.hop1)?, nearest: of_nearest(left.max(1))? })
    }
}

impl Fit {
    /// Of the quantiles that count, the one that is farthest off.
    pub fn furthest(&self) -> Difference {
        let difference = |place: usize| {
            let (all, nearest, model) = (self.all.0[place], self.nearest.0[place], self.model.0[place]);
            let by = if model < all { all - model } else { (nearest.max(all) - model).min(0.0) };
            Difference { quantile: Quantiles::NAMES[place], by }
        };
        let largest = COMPARED.map(difference).max_by(|a, b| a.by.abs().total_cmp(&b.by.abs()));
        largest.expect("some are compared")
    }

    pub fn is_good(&self) -> bool {
        self.furthest().by.abs() <= BOUND
    }

    /// Each quantile: its name, the lowest and the highest it may be taken for, and the model's.
    pub fn rows(&self) -> impl Iterator<Item = (&'static str, f32, f32, f32)> {
        (0..5).map(|place| (Quantiles::NAMES[place], self.all.0[place], self.nearest.0[place], self.model.0[place]))
    }
}

/// The cosines of `count` nearest others to each of the rows `asked`, from the nearest on. Rows are normalised, all are
/// compared.
pub fn neighbourhoods(rows: &[Embedding], asked: &[usize], count: usize) -> Vec<Vec<f32>> {
    let nearest = |&row: &usize| {
        let others = rows.iter().enumerate().filter(|&(other, _)| other != row);
        let mut cosines: Vec<f32> = others.map(|(_, other)| dot(rows[row].values(), other.values())).collect();
        if cosines.len() > count {
            cosines.select_nth_unstable_by(count, |a, b| b.total_cmp(a));
            cosines.truncate(count);
        }
        cosines.sort_unstable_by(|a, b| b.total_cmp(a));
        cosines
    };
    asked.par_iter().map(nearest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trained(quantiles: [f32; 5], faces: Option<usize>) -> TrainedAt {
        TrainedAt { quantiles: Quantiles(quantiles), faces, hop1: 4 }
    }

    #[test]
    fn quantiles_are_those_of_the_nearest_rank() {
        let cosines = (0..=100).rev().map(|percent| percent as f32 / 100.0).collect();
        assert_eq!(Quantiles::of(cosines), Some(Quantiles([0.01, 0.1, 0.5, 0.9, 0.99])));
        assert_eq!(Quantiles::of(vec![0.3]), Some(Quantiles([0.3; 5])));
        assert_eq!(Quantiles::of(Vec::new()), None);
    }

    #[test]
    fn a_table_that_is_no_quantiles_is_refused() {
        let read = |values: [&str; 5]| {
            let names = ["q01", "q10", "q50", "q90", "q99"];
            let lines = names.iter().zip(values).map(|(name, value)| format!("{name} = {value}\n"));
            toml::from_str::<Quantiles>(&lines.collect::<String>()).map_err(|error| error.to_string())
        };
        assert_eq!(read(["-0.1", "0.2", "0.2", "0.4", "1.0"]), Ok(Quantiles([-0.1, 0.2, 0.2, 0.4, 1.0])));
        for wrong in [
            ["0.2", "0.1", "0.3", "0.4", "0.5"],
            ["0.1", "nan", "0.3", "0.4", "0.5"],
            ["0.1", "0.2", "0.3", "0.4", "1.5"],
        ] {
            assert!(read(wrong).unwrap_err().contains("neighbour_similarity"), "{wrong:?}");
        }
    }

    #[test]
    fn as_many_faces_are_compared_as_they_are() {
        let trained = trained([0.1, 0.2, 0.3, 0.4, 0.5], None);
        let fit = trained.compare(100, &vec![vec![0.45, 0.35, 0.25, 0.22]; 100]).unwrap();
        // The quantiles are 0.22, 0.22, 0.25 or 0.35, 0.45 and 0.45.
        assert_eq!(fit.all, fit.nearest);
        assert!(fit.is_good(), "{fit:?}");
        let nearer = trained.compare(100, &vec![vec![0.9; 4]; 100]).unwrap();
        assert_eq!(nearer.furthest().quantile, "0.1");
        assert!(!nearer.is_good() && nearer.furthest().by > 0.6);
        let farther = trained.compare(100, &vec![vec![-0.3; 4]; 100]).unwrap();
        assert_eq!(farther.furthest().quantile, "0.9");
        assert!(!farther.is_good() && farther.furthest().by < -0.6);
    }

    #[test]
    fn of_fewer_faces_the_model_may_be_between_the_nearest_and_all() {
        // Half as many: the nearest 2 of 4 are what is left of the whole's neighbours.
        let neighbourhoods = vec![vec![0.8, 0.7, 0.2, 0.1]; 50];
        let fits = |cosine| trained([cosine; 5], Some(100)).compare(50, &neighbourhoods).unwrap();
        let rows: Vec<_> = fits(0.5).rows().collect();
        assert_eq!(rows[1], ("0.1", 0.1, 0.7, 0.5));
        assert_eq!(rows[3], ("0.9", 0.8, 0.8, 0.5));
        assert_eq!(fits(0.72).furthest(), Difference { quantile: "0.9", by: 0.8 - 0.72 });
        assert!(!fits(0.5).is_good() && !fits(0.95).is_good());
    }

    #[test]
    fn too_few_faces_are_not_compared() {
        let trained = trained([0.1; 5], Some(100));
        assert_eq!(trained.fewest(), 25);
        assert!(trained.compare(24, &[vec![0.1; 4]]).is_none() && trained.compare(25, &[vec![0.1; 4]]).is_some());
        assert!(TrainedAt { faces: None, ..trained }.compare(4, &[vec![0.1; 3]]).is_none());
    }

    #[test]
    fn neighbourhoods_are_of_the_nearest_others() {
        let rows = [[1.0, 0.0], [0.6, 0.8], [0.0, 1.0], [0.8, 0.6]].map(|row| Embedding::from_normalised(&row));
        assert_eq!(neighbourhoods(&rows, &[0], 2), [[0.8, 0.6]]);
        assert_eq!(neighbourhoods(&rows, &[2, 0], 9), [[0.8, 0.6, 0.0], [0.8, 0.6, 0.0]]);
    }
}

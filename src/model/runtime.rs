//! Finds ONNX Runtime's shared library and the device to run on.
//!
//! The library is loaded at run time, so that one facetd serves machines with and without a GPU.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use ort::environment::Environment;

use super::ModelError;

/// Where `scripts/setup runtime` leaves the library, seen from the project's folder.
const BUILT: &str = "target/onnxruntime/libonnxruntime.so";
/// Where a package leaves it.
const INSTALLED: [&str; 3] =
    ["/usr/lib/facetd/libonnxruntime.so", "/usr/local/lib/libonnxruntime.so", "/usr/lib/libonnxruntime.so"];

/// Where the models run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Device {
    Cpu,
    /// This one or none: a missing CUDA is an error.
    Cuda(i32),
    /// CUDA when it works, else the CPU, said in the log and in a metric.
    Auto,
}

impl FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> Result<Device, String> {
        match text {
            "cpu" => Ok(Device::Cpu),
            "auto" => Ok(Device::Auto),
            _ => text
                .strip_prefix("cuda:")
                .and_then(|number| number.parse().ok())
                .map(Device::Cuda)
                .ok_or_else(|| format!("{text:?} is not \"cpu\", \"cuda:N\" or \"auto\"")),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Cpu => f.write_str("cpu"),
            Device::Cuda(number) => write!(f, "cuda:{number}"),
            Device::Auto => f.write_str("auto"),
        }
    }
}

/// A loaded ONNX Runtime. There is one a process.
#[derive(Clone)]
pub struct Runtime {
    pub(super) environment: Environment,
}

impl Runtime {
    /// Loads the library at `configured`, or the first found of the usual places: beside the
    /// program, where `make` puts it, where packages put it.
    pub fn load(configured: Option<&Path>) -> Result<Runtime, ModelError> {
        let path = match configured {
            Some(path) if path.is_file() => path.to_path_buf(),
            Some(path) => {
                return Err(ModelError::Runtime { reason: format!("there is no file {}", path.display()) });
            }
            None => usual_places().into_iter().find(|path| path.is_file()).ok_or_else(|| {
                let places: Vec<_> = usual_places().iter().map(|path| path.display().to_string()).collect();
                ModelError::Runtime { reason: format!("none of {} exists", places.join(", ")) }
            })?,
        };
        // Absolute: ort would look for a relative path beside the program first.
        let path = std::path::absolute(&path).unwrap_or(path);
        let refuse = |reason: String| ModelError::Runtime { reason };
        let builder = ort::init_from(&path).map_err(|error| refuse(error.to_string()))?;
        let environment =
            builder.with_name("facetd").with_telemetry(false).build().map_err(|error| refuse(error.to_string()))?;
        Ok(Runtime { environment })
    }
}

fn usual_places() -> Vec<PathBuf> {
    let beside_program = std::env::current_exe().ok().and_then(|program| {
        let folder = program.parent()?.to_path_buf();
        // A program under target/release finds target/onnxruntime from any working directory.
        Some([folder.join("libonnxruntime.so"), folder.join("../onnxruntime/libonnxruntime.so")])
    });
    let mut places: Vec<PathBuf> = beside_program.into_iter().flatten().collect();
    places.push(BUILT.into());
    places.extend(INSTALLED.map(PathBuf::from));
    places
}

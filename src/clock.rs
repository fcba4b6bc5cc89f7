//! The one clock there is: the engine is told the time, and does not look.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::face::Timestamp;
use crate::failpoint;

/// What the clock says: the engine has none.
pub fn now() -> Timestamp {
    // A clock before 1970 is as good as any other wrong one.
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(since_epoch.as_millis() as i64 + failpoint::shift("clock"))
}

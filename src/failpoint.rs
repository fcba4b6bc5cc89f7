//! Places at which a test has the program die, as `kill -9` would, or has the machine refuse.
//!
//! Without the feature `failpoints` both functions are empty and cost nothing. With it, the variable
//! FAILPOINTS says what happens where, in the words of the crate `fail`: `store::flushed=3*off->return`
//! dies there at the fourth time, `store::append=return` has every append fail.

/// Dies here, when the failpoint is told `return`: no destructor runs, nothing is flushed.
#[inline]
pub fn reached(_name: &str) {
    #[cfg(feature = "failpoints")]
    fail::fail_point!(_name, |_| {
        eprintln!("failpoint {_name}: dying");
        std::process::abort()
    });
}

/// Fails here as a disk without room does, when the failpoint is told `return`.
#[inline]
pub fn refused(_name: &str) -> std::io::Result<()> {
    #[cfg(feature = "failpoints")]
    fail::fail_point!(_name, |_| Err(std::io::Error::from(std::io::ErrorKind::StorageFull)));
    Ok(())
}

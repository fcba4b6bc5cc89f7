//! Places at which a test has the program die, as `kill -9` would, or has the machine refuse.
//!
//! Without the feature `failpoints` its functions are empty and cost nothing. With it, the variable
//! FAILPOINTS says what happens where, in the words of the crate `fail`: `store::flushed=3*off->return`
//! dies there at the fourth time, `vectors::append=return` has every append fail.

/// Dies here, when the failpoint is told `return`: no destructor runs, nothing is flushed.
#[inline]
pub fn reached(_name: &str) {
    #[cfg(feature = "failpoints")]
    fail::fail_point!(_name, |_| {
        eprintln!("failpoint {_name}: dying");
        std::process::abort()
    });
}

/// How many milliseconds the clock is wrong here: 0, unless the failpoint is told `return(MILLISECONDS)`.
#[inline]
pub fn shift(_name: &str) -> i64 {
    #[cfg(feature = "failpoints")]
    fail::fail_point!(_name, |milliseconds| milliseconds.and_then(|text| text.parse().ok()).unwrap_or(0));
    0
}

/// Fails here as a disk without room does, when the failpoint is told `return`.
#[inline]
pub fn refused(_name: &str) -> std::io::Result<()> {
    #[cfg(feature = "failpoints")]
    fail::fail_point!(_name, |_| Err(std::io::Error::from(std::io::ErrorKind::StorageFull)));
    Ok(())
}

#![no_main]

facetd_fuzz::fuzz!("sled_record");

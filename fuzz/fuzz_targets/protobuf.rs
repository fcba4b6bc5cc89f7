#![no_main]

facetd_fuzz::fuzz!("protobuf");

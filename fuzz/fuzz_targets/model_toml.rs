#![no_main]

facetd_fuzz::fuzz!("model_toml");

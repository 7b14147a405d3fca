//! Sets where the programs search sherpa-onnx's library at run time (rpath): first the installed
//! folder, then the build folder.

fn main() {
    println!("cargo:rerun-if-changed=config/build.rs");
    if std::env::var_os("CARGO_FEATURE_SHERPA").is_none() {
        return;
    }
    // This line comes after the check of the feature, so that without it a change of the variable
    // triggers no rebuild.
    println!("cargo:rerun-if-env-changed=SHERPA_ONNX_LIB_DIR");
    println!("cargo:rustc-link-arg=-Wl,-rpath,$ORIGIN/../lib/expressd/sherpa");
    match std::env::var("SHERPA_ONNX_LIB_DIR") {
        Ok(folder) => println!("cargo:rustc-link-arg=-Wl,-rpath,{folder}"),
        Err(_) => println!(
            "cargo:warning=without SHERPA_ONNX_LIB_DIR the crate of sherpa-onnx downloads its \
             library; `make build FEATURES=sherpa` sets it"
        ),
    }
}

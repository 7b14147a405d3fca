//! What the programs print.

/// A reader that closes our output (`expressd devices | head`) ends us quietly, as it does any other program of a pipeline; any other
/// panic is told as usual. For the beginning of `main`.
pub fn end_quietly_with_the_reader() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if panic.payload_as_str().is_some_and(|text| {
            text.starts_with("failed printing to stdout") && text.contains("Broken pipe")
        }) {
            std::process::exit(0);
        }
        usual(panic);
    }));
}

//! The `wirevault` program: start, exit code.

fn main() -> std::process::ExitCode {
    wirevault::cli::main()
}

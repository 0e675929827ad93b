fn main() -> std::process::ExitCode {
    illava::cli::main()
}

fn main() {
    println!("illava {}", env!("CARGO_PKG_VERSION"));
}

/// Why an instruction can't be translated: ends the machine by name if a guest ever gets there.
struct Refusal: Error {
  let reason: String
}

import TrivisorDevices
import TrivisorVMM

/// The source of random numbers.
final class EntropySubject: FuzzSubject {
  let device: any VirtioDevice = VirtioEntropy()
  let features: VirtioFeatures = []
  let memory: GuestMemory

  init() throws { memory = try GuestMemory(size: RandomGuest.memorySize) }

  func request(queue: Int, _ random: inout FuzzRandom) -> FuzzRequest? { nil }
}

/// A date and time of the proleptic Gregorian calendar, without time zone: what a clock chip counts.
struct CalendarTime: Codable, Sendable, Equatable {
  var year: Int
  /// 1–12.
  var month: Int
  /// 1–31.
  var day: Int
  var hour: Int
  var minute: Int
  var second: Int

  /// - Parameter seconds: since 1970-01-01 00:00:00.
  init(secondsSince1970 seconds: Int64) {
    let secondOfDay = Int((seconds % 86400 + 86400) % 86400)
    let days = Int((seconds - Int64(secondOfDay)) / 86400)
    hour = secondOfDay / 3600
    minute = secondOfDay / 60 % 60
    second = secondOfDay % 60
    // Years are counted from March, so that the leap day is the last one; 146097 days are 400 years.
    let shifted = days + 719_468
    let era = (shifted >= 0 ? shifted : shifted - 146_096) / 146_097
    let dayOfEra = shifted - era * 146_097
    let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
    let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
    let shiftedMonth = (5 * dayOfYear + 2) / 153
    day = dayOfYear - (153 * shiftedMonth + 2) / 5 + 1
    month = shiftedMonth < 10 ? shiftedMonth + 3 : shiftedMonth - 9
    year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
  }

  /// Seconds since 1970-01-01 00:00:00. Fields out of range count on into the next larger one, as in a sum.
  var secondsSince1970: Int64 {
    let shiftedYear = month <= 2 ? year - 1 : year
    let era = (shiftedYear >= 0 ? shiftedYear : shiftedYear - 399) / 400
    let yearOfEra = shiftedYear - era * 400
    let dayOfYear = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1
    let dayOfEra = yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear
    let days = era * 146_097 + dayOfEra - 719_468
    return Int64(days) * 86400 + Int64(hour * 3600 + minute * 60 + second)
  }

  /// 1 is Sunday.
  var dayOfWeek: Int {
    let days = (secondsSince1970 - Int64(hour * 3600 + minute * 60 + second)) / 86400
    // 1970-01-01 was a Thursday.
    return Int(((days + 4) % 7 + 7) % 7) + 1
  }
}

// The proleptic Gregorian calendar in integer arithmetic. Days count from 1970-01-01. Freestanding.
#pragma once

#include "base/types.hpp"

namespace nacre::time {

struct Date {
  i64 year = 1970;
  unsigned month = 1, day = 1;  // from 1
  constexpr bool operator==(const Date&) const = default;
};

// Years are counted from March, so that the leap day comes last; 400 years are an era of 146097 days.
constexpr i64 days_of(const Date& date) {
  const i64 year = date.month <= 2 ? date.year - 1 : date.year;
  const i64 era = (year >= 0 ? year : year - 399) / 400;
  const i64 year_of_era = year - era * 400;
  const i64 month_from_march = (i64{date.month} + 9) % 12;
  const i64 day_of_year = (153 * month_from_march + 2) / 5 + i64{date.day} - 1;
  return era * 146'097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719'468;
}

constexpr Date date_of(i64 days) {
  const i64 shifted = days + 719'468;
  const i64 era = (shifted >= 0 ? shifted : shifted - 146'096) / 146'097;
  const i64 day_of_era = shifted - era * 146'097;
  const i64 year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36'524 - day_of_era / 146'096) / 365;
  const i64 day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
  const i64 month_from_march = (5 * day_of_year + 2) / 153;
  Date date;
  date.day = static_cast<unsigned>(day_of_year - (153 * month_from_march + 2) / 5 + 1);
  date.month = static_cast<unsigned>(month_from_march < 10 ? month_from_march + 3 : month_from_march - 9);
  date.year = year_of_era + era * 400 + (date.month <= 2 ? 1 : 0);
  return date;
}
// 1 is Sunday, as the MC146818 counts; 1970-01-01 was a Thursday.
constexpr unsigned weekday_of(i64 days) {
  return static_cast<unsigned>(((days + 4) % 7 + 7) % 7) + 1;
}

static_assert(date_of(0) == Date{1970, 1, 1} && days_of({1970, 1, 1}) == 0);
static_assert(date_of(19'782) == Date{2024, 2, 29} && days_of({2024, 2, 29}) == 19'782);
static_assert(days_of({2000, 3, 1}) - days_of({2000, 2, 28}) == 2);
static_assert(days_of({1900, 3, 1}) - days_of({1900, 2, 28}) == 1);
static_assert(date_of(-719'468) == Date{0, 3, 1} && weekday_of(0) == 5 && weekday_of(-4) == 1);

}  // namespace nacre::time

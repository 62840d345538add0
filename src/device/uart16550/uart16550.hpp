// A 16550A serial port. National Semiconductor PC16550D data sheet. Bytes leave at once, whatever the
// divisor says: the transmitter is always empty again when the guest looks.
// Freestanding; all calls under the board's lock.
#pragma once

#include "base/result.hpp"
#include "base/types.hpp"
#include "device/ports.hpp"
#include "irq/line.hpp"

namespace nacre::device {

class Uart16550 {
 public:
  static constexpr u16 kPorts = 8;
  static constexpr unsigned kFifoBytes = 16;

  struct State {
    static constexpr u32 kVersion = 1;
    u32 version = kVersion;
    u8 ier = 0, fcr = 0, lcr = 0, mcr = 0, scr = 0;
    u8 modem_delta = 0;       // MSR bits 3..0
    u8 overrun = 0;           // LSR bit 1, cleared by reading LSR
    u8 thre_pending = 0;      // the THRE interrupt waits to be seen
    u16 divisor = 12;         // 9600 baud; affects nothing
    u16 breaks = 0;           // one bit a FIFO slot: that byte is a break condition
    u8 head = 0, length = 0;  // receive FIFO
    u8 fifo[kFifoBytes] = {};
    u8 interrupt = 0;  // level of the wire
    u8 spare = 0;
    constexpr bool operator==(const State&) const = default;
  };

  Uart16550(irq::Line& irq, ByteSink& output) : irq_(irq), output_(output) { reset(); }

  void reset();
  u8 read(u16 offset);
  void write(u16 offset, u8 value);

  // Input from the host: flow control is the caller's, who keeps what does not fit.
  [[nodiscard]] bool can_receive() const;
  bool receive(u8 byte);  // false: no room, the byte was not taken
  void receive_break();   // a break condition, as SysRq over serial wants it

  [[nodiscard]] State state() const { return state_; }
  Status load(const State& state);

 private:
  [[nodiscard]] unsigned capacity() const;
  [[nodiscard]] unsigned trigger_level() const;
  [[nodiscard]] u8 interrupt_reason() const;  // IIR bits 3..0
  [[nodiscard]] u8 line_status() const;
  [[nodiscard]] u8 modem_lines() const;  // MSR bits 7..4
  [[nodiscard]] bool is_loopback() const;
  void enqueue(u8 byte, bool is_break);
  u8 take_byte();
  u8 read_iir();
  u8 read_lsr();
  u8 read_msr();
  void transmit(u8 byte);
  void write_ier(u8 value);
  void write_fcr(u8 value);
  void write_mcr(u8 value);
  void update();

  irq::Line& irq_;
  ByteSink& output_;
  State state_;
};

}  // namespace nacre::device
